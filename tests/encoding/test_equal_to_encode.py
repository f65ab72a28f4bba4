from __future__ import annotations

from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from support.models import TEXTS, tiny_model, tiny_router_model, tiny_static_model
from torch import Tensor

from st_eval_callbacks.encoding import EncodeOptions, Session

PROMPTS = {"query": "find : ", "document": "passage : ", "other": "the old "}
MODELS: dict[str, Any] = {
    "static": tiny_static_model,
    "static with prompts": lambda: tiny_static_model(prompts=PROMPTS),
    "cls": lambda: tiny_model(pooling="cls"),
    "max": lambda: tiny_model(pooling="max"),
    "mean": lambda: tiny_model(pooling="mean"),
    "mean_sqrt_len_tokens": lambda: tiny_model(pooling="mean_sqrt_len_tokens"),
    "weightedmean": lambda: tiny_model(pooling="weightedmean"),
    "lasttoken": lambda: tiny_model(pooling="lasttoken"),
    "several pooling modes": lambda: tiny_model(pooling=("cls", "mean")),
    "dense and normalise": lambda: tiny_model(dense=6, normalize=True),
    "prompts": lambda: tiny_model(prompts=PROMPTS),
    "prompts left out of the mean": lambda: tiny_model(prompts=PROMPTS, include_prompt=False),
    "prompts left out of weights": lambda: tiny_model(prompts=PROMPTS, include_prompt=False, pooling="weightedmean"),
    "default prompt": lambda: tiny_model(prompts=PROMPTS, default_prompt_name="other"),
    "left padding": lambda: tiny_model(architecture="qwen2", padding_side="left", pooling="lasttoken"),
    "left padding, prompts left out": lambda: tiny_model(
        architecture="qwen2", padding_side="left", prompts=PROMPTS, include_prompt=False
    ),
    "router": tiny_router_model,
    "router with prompts": lambda: tiny_router_model(prompts=PROMPTS),
    "truncating model": lambda: tiny_model(truncate_dim=5),
}
OPTIONS: dict[str, EncodeOptions] = {
    "plain": EncodeOptions(),
    "query": EncodeOptions(task="query"),
    "document": EncodeOptions(task="document"),
    "prompt": EncodeOptions(prompt="a cat : "),
    "small batches": EncodeOptions(batch_size=2),
    "truncated": EncodeOptions(task="query", truncate_dim=4),
    "truncated, then normalised": EncodeOptions(task="document", truncate_dim=4, normalize=True),
    "wider than the model": EncodeOptions(truncate_dim=1000),
}


def own_encode(model: SentenceTransformer, texts: list[Any], options: EncodeOptions, **kwargs: Any) -> Tensor:
    methods = {"query": model.encode_query, "document": model.encode_document}
    return methods.get(options.task or "", model.encode)(
        texts,
        prompt=options.prompt,
        prompt_name=options.prompt_name,
        truncate_dim=options.truncate_dim,
        normalize_embeddings=options.normalize,
        convert_to_tensor=True,
        **kwargs,
    )


@pytest.mark.parametrize("model_name", MODELS)
def test_embeddings_are_those_of_the_models_own_encode(model_name: str) -> None:
    model = MODELS[model_name]()
    for name, options in OPTIONS.items():
        session = Session()
        embeddings = session.lookup(model, TEXTS, options)
        torch.testing.assert_close(
            embeddings.rows(),
            own_encode(model, TEXTS, options),
            atol=1e-5,
            rtol=0,
            msg=lambda text, n=name: f"{n}: {text}",
        )
        assert session.num_tokens > 0, f"{name} did not take the fast path"


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_found_by_its_name(name: str) -> None:
    model = tiny_model(prompts=PROMPTS)
    options = EncodeOptions(task="query", prompt_name=name)
    rows = Session().lookup(model, TEXTS, options).rows()
    torch.testing.assert_close(rows, own_encode(model, TEXTS, options), atol=1e-5, rtol=0)


@pytest.mark.parametrize("names", [("document", "corpus"), ("passage", "corpus"), ("corpus",), ("other",)])
def test_documents_take_the_first_prompt_that_the_model_has_for_them(names: tuple[str, ...]) -> None:
    model = tiny_model()
    model.prompts = {name: f"{word} : " for name, word in zip(names, ("passage", "the old"), strict=False)}
    options = EncodeOptions(task="document")
    rows = Session().lookup(model, TEXTS, options).rows()
    torch.testing.assert_close(rows, own_encode(model, TEXTS, options), atol=1e-5, rtol=0)


def test_an_unknown_prompt_name_raises_as_encode_does() -> None:
    with pytest.raises(ValueError, match="'nothing' not found"):
        Session().lookup(tiny_model(), TEXTS, EncodeOptions(prompt_name="nothing"))


@pytest.mark.parametrize("make", [tiny_model, tiny_static_model, tiny_router_model])
@pytest.mark.parametrize("text", TEXTS)
def test_one_text_alone_is_encoded_as_among_others(make: Any, text: str) -> None:
    model = make()
    among_others = Session().lookup(model, TEXTS, EncodeOptions()).rows()[TEXTS.index(text)]
    torch.testing.assert_close(Session().lookup(model, [text]).rows()[0], among_others, atol=1e-5, rtol=0)


def test_texts_beyond_the_maximal_length_are_cut_as_encode_cuts_them() -> None:
    model = tiny_model()
    model.max_seq_length = 6
    rows = Session().lookup(model, TEXTS).rows()
    torch.testing.assert_close(rows, own_encode(model, TEXTS, EncodeOptions()), atol=1e-5, rtol=0)


def test_a_prompt_longer_than_the_maximal_length_is_no_problem() -> None:
    model = tiny_model()
    model.max_seq_length = 4
    options = EncodeOptions(prompt="the cat sits on the mat under the tree ")
    rows = Session().lookup(model, TEXTS, options).rows()
    torch.testing.assert_close(rows, own_encode(model, TEXTS, options), atol=1e-5, rtol=0)


def test_features_of_an_unknown_form_are_left_to_the_model() -> None:
    model = tiny_model()
    own = model[0].preprocess

    def with_more(inputs: Any, **kwargs: Any) -> Any:
        features = own(inputs, **kwargs)
        features["position_ids"] = torch.arange(features["input_ids"].shape[1]).expand_as(features["input_ids"])
        return features

    model[0].preprocess = with_more
    session = Session()
    rows = session.lookup(model, TEXTS, EncodeOptions(batch_size=2)).rows()
    torch.testing.assert_close(rows, own_encode(model, TEXTS, EncodeOptions()), atol=1e-5, rtol=0)
    assert (session.num_encoded, session.num_tokens) == (8, 0)


def test_half_precision_models_give_half_precision_embeddings() -> None:
    model = tiny_model().bfloat16()
    rows = Session().lookup(model, TEXTS).rows()
    assert rows.dtype == torch.bfloat16
    torch.testing.assert_close(rows, own_encode(model, TEXTS, EncodeOptions()), atol=0.05, rtol=0)


def test_autocast_computes_in_the_type_given() -> None:
    model = tiny_model()
    rows = Session(autocast_dtype=torch.bfloat16).lookup(model, TEXTS).rows()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = own_encode(model, TEXTS, EncodeOptions())
    torch.testing.assert_close(rows.float(), expected.float(), atol=0.05, rtol=0)
    assert not torch.equal(rows.float(), Session().lookup(model, TEXTS).rows())


class Shouting(SentenceTransformer):
    """Overrides `encode`, so it must be asked itself."""

    def encode(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().encode([text.upper() for text in inputs], *args, **kwargs) * 2


@pytest.mark.parametrize("options", [EncodeOptions(), EncodeOptions(task="query"), EncodeOptions(truncate_dim=7)])
def test_a_subclass_with_its_own_encode_is_asked_itself(options: EncodeOptions) -> None:
    model = Shouting(modules=list(tiny_model()), device="cpu", truncate_dim=3)
    session = Session()
    # Twice, so that the table of what the model returned grows.
    first = session.lookup(model, TEXTS[:3], options).rows()
    rows = session.lookup(model, TEXTS, options).rows()
    torch.testing.assert_close(rows, own_encode(model, TEXTS, options), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows[:3], first, atol=1e-5, rtol=0)
    assert (session.num_encoded, session.num_tokens) == (8, 0)


def test_a_wrapper_put_on_the_instance_is_asked() -> None:
    model = tiny_model()
    calls = []
    own = model.encode

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return own(*args, **kwargs)

    model.encode = counting  # type: ignore[method-assign]
    rows = Session().lookup(model, TEXTS, EncodeOptions(task="document")).rows()
    assert len(calls) == 1
    torch.testing.assert_close(rows, own(TEXTS, convert_to_tensor=True), atol=1e-5, rtol=0)


def test_a_compiled_model_is_asked_itself() -> None:
    model = tiny_model()
    model.compile(backend="eager")
    session = Session()
    rows = session.lookup(model, TEXTS[:2]).rows()
    assert session.num_tokens == 0
    torch.testing.assert_close(rows, tiny_model().encode(TEXTS[:2], convert_to_tensor=True), atol=1e-5, rtol=0)


def test_pairs_of_texts_go_through_the_models_own_encode() -> None:
    model = tiny_model()
    pairs = [("a cat", "the dog"), ("bird", "fish"), ("a cat", "the dog")]
    session = Session()
    rows = session.lookup(model, pairs).rows()
    torch.testing.assert_close(rows, model.encode(pairs, convert_to_tensor=True), atol=1e-5, rtol=0)
    assert session.num_encoded == 2
