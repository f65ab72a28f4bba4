"""Pairs scored once, in batches of even length, with the values of the model's own `predict`."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from support.models import TEXTS, WORDS, StubCrossEncoder, tiny_cross_encoder, tiny_language_cross_encoder
from torch import nn

from st_eval_callbacks import distributed
from st_eval_callbacks.encoding import PredictOptions, Session
from st_eval_callbacks.encoding.predictions import is_standard_cross_encoder, text_pairs
from st_eval_callbacks.encoding.token_store import token_store

PAIRS = [(left, right) for left in TEXTS for right in TEXTS]
NUM_DISTINCT = 64
PROMPTS = {"query": "find : ", "other": "the old "}
PLAIN = PredictOptions()


def predict(model: Any, pairs: Any = PAIRS, options: PredictOptions = PLAIN, one: Session | None = None) -> Any:
    return (one or Session()).lookup(model, pairs, options).rows()


class Own(CrossEncoder):
    """Its `predict` is another one, so it must be asked itself."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return 2 * super().predict(*args, **kwargs)


def own_model() -> Own:
    return Own(modules=[tiny_cross_encoder()[0]], device="cpu").eval()


# -- values -----------------------------------------------------------------------------------------------------------

MODELS: dict[str, Any] = {
    "one label": tiny_cross_encoder,
    "three labels": lambda: tiny_cross_encoder(num_labels=3),
    "language model": tiny_language_cross_encoder,
    "prompts": lambda: tiny_cross_encoder(prompts=PROMPTS, default_prompt_name="other"),
    "own activation": lambda: tiny_cross_encoder(num_labels=2, activation_fn=nn.Tanh()),
    "own predict": own_model,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "identity": {"activation_fn": nn.Identity()},
    "function": {"activation_fn": lambda scores: scores * 3 - 1},
    "softmax": {"apply_softmax": True},
    "activation and softmax": {"activation_fn": nn.Sequential(nn.Sigmoid(), nn.ReLU()), "apply_softmax": True},
    "batches of 5": {"batch_size": 5},
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_values_are_those_of_the_models_own_predict(make: Any, options: dict[str, Any]) -> None:
    model = make()
    expected = model.predict(PAIRS, convert_to_tensor=True, **options)
    found = predict(model, options=PredictOptions(**options))
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("given", [{"prompt_name": "query"}, {"prompt": "find : "}, {"prompt": ""}, {}])
def test_prompts_are_put_before_pairs_as_predict_does(given: dict[str, str]) -> None:
    model = tiny_cross_encoder(prompts=PROMPTS, default_prompt_name="other")
    torch.testing.assert_close(
        predict(model, options=PredictOptions(**given)),
        model.predict(PAIRS, convert_to_tensor=True, **given),
        atol=1e-5,
        rtol=0,
    )


def test_pairs_that_are_too_long_are_cut_as_predict_cuts_them() -> None:
    model = tiny_cross_encoder()
    long = [(" ".join(WORDS * 2), "a cat"), ("a cat", " ".join(WORDS * 3)), (" ".join(WORDS), " ".join(WORDS))]
    torch.testing.assert_close(predict(model, long), model.predict(long, convert_to_tensor=True), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_widened_before_the_activation_function(dtype: torch.dtype) -> None:
    model = tiny_cross_encoder().to(dtype)
    found, expected = predict(model), model.predict(PAIRS, convert_to_tensor=True)
    assert found.dtype == expected.dtype == torch.float32
    # Batches of other widths round half-precision values elsewhere.
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=0)


def test_the_order_of_a_pair_matters() -> None:
    scores = predict(tiny_cross_encoder(), [("cat", "dog"), ("dog", "cat")])
    assert scores[0] != scores[1]


# -- once -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny_cross_encoder, own_model])
def test_a_pair_is_scored_once_whoever_asks(make: Any) -> None:
    one, model = Session(), make()
    first = predict(model, one=one)
    again = predict(model, [list(pair) for pair in reversed(PAIRS)], one=one)
    assert torch.equal(first, again.flip(0))
    assert (one.num_requested, one.num_encoded) == (2 * len(PAIRS), NUM_DISTINCT)


def test_all_activation_functions_come_from_one_pass() -> None:
    one, model = Session(), tiny_cross_encoder(num_labels=3)
    for options in OPTIONS.values():
        predict(model, options=PredictOptions(**options), one=one)
    assert one.num_encoded == NUM_DISTINCT


def test_other_prompts_are_other_pairs() -> None:
    one, model = Session(), tiny_cross_encoder(prompts=PROMPTS)
    for options in ({}, {"prompt": ""}, {"prompt_name": "query"}, {"prompt": "find : "}):
        predict(model, options=PredictOptions(**options), one=one)
    assert one.num_encoded == 2 * NUM_DISTINCT


def test_a_predict_of_its_own_is_asked_anew_for_another_activation_function() -> None:
    one, model = Session(), StubCrossEncoder({("a", "b"): 0.5})
    identity = nn.Identity()
    for function in (None, identity, identity, nn.Sigmoid()):
        predict(model, [("a", "b")], PredictOptions(activation_fn=function), one)
    assert [kwargs.get("activation_fn") is None for _, kwargs in model.calls] == [True, False, False]


def test_prefetch_scores_the_union_in_one_go_with_the_smallest_batches() -> None:
    one, model = Session(), StubCrossEncoder({(a, b): 0.5 for a in "abc" for b in "abc"})
    requests = [
        ([("a", "b"), ("a", "c")], PredictOptions(batch_size=7)),
        ([("a", "c"), ("b", "c")], PredictOptions(batch_size=5)),
    ]
    one.prefetch(model, requests)
    assert model.predicted == [("a", "b"), ("a", "c"), ("b", "c")]
    assert model.calls[0][1]["batch_size"] == 5
    predict(model, [("b", "c"), ("a", "b")], one=one)
    assert len(model.calls) == 1


def test_lists_of_pairs_are_known_again_in_the_next_evaluation() -> None:
    model, pairs = tiny_cross_encoder(), list(PAIRS)
    predict(model, pairs)
    one = Session()
    assert one.kept.numbering_of(model).recall(pairs) is not None
    assert one.kept.numbering_of(model).recall([*pairs[:-1], ("bird", "x")]) is None


def test_token_ids_are_kept_between_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_cross_encoder()
    expected = predict(model)
    assert len(token_store(model)) == NUM_DISTINCT  # type: ignore[arg-type]
    monkeypatch.setattr(model[0], "preprocess", None)
    assert torch.equal(predict(model), expected)


# -- batches ----------------------------------------------------------------------------------------------------------


def widths(model: Any, pairs: list[tuple[str, str]], options: PredictOptions) -> list[tuple[int, int]]:
    shapes: list[tuple[int, int]] = []
    handle = model[0].register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(args[0]["input_ids"].shape)), with_kwargs=True
    )
    predict(model, pairs, options)
    handle.remove()
    return shapes


def mixed_pairs(num: int) -> list[tuple[str, str]]:
    chooser = random.Random(1)
    return [
        (
            " ".join(chooser.choices(WORDS, k=chooser.randint(1, 9))),
            " ".join(chooser.choices(WORDS, k=chooser.randint(1, 40))),
        )
        for _ in range(num)
    ]


def test_a_batch_size_is_obeyed() -> None:
    shapes = widths(tiny_cross_encoder(), PAIRS, PredictOptions(batch_size=5))
    assert [rows for rows, _ in shapes] == [5] * 12 + [4]


def test_batches_go_from_long_to_short_within_the_budget_of_tokens_and_with_little_padding() -> None:
    model, pairs = tiny_cross_encoder(), mixed_pairs(1500)
    shapes = widths(model, pairs, PLAIN)
    assert [width for _, width in shapes] == sorted((width for _, width in shapes), reverse=True)
    assert all(rows * width <= 1024 for rows, width in shapes)
    one = Session()
    predict(model, pairs, one=one)
    assert one.num_tokens < one.num_padded_tokens < 1.05 * one.num_tokens


# -- training stays as it was -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny_cross_encoder, own_model])
def test_modes_random_numbers_and_gradients_stay_as_they_were(make: Any) -> None:
    model = make().train()
    model[0].model.bert.encoder.eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    scores = predict(model)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not scores.requires_grad
    torch.testing.assert_close(scores, predict(make().eval()), atol=1e-6, rtol=0)


def test_an_evaluation_may_compute_in_another_type() -> None:
    model = tiny_cross_encoder()
    found = predict(model, one=Session(autocast_dtype=torch.bfloat16))
    assert found.dtype == torch.float32
    assert 0 < (found - predict(model)).abs().max() < 0.05


# -- other objects and inputs -----------------------------------------------------------------------------------------


def test_only_a_plain_cross_encoder_is_driven_by_the_fast_path() -> None:
    model = tiny_cross_encoder()
    assert is_standard_cross_encoder(model)
    assert not is_standard_cross_encoder(own_model())
    assert not is_standard_cross_encoder(StubCrossEncoder({}))
    model.predict = model.predict  # type: ignore[method-assign]
    assert not is_standard_cross_encoder(model)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([("a", "b")], [("a", "b")]),
        ([["a", "b"], ("c", "d")], [("a", "b"), ("c", "d")]),
        (list(np.array([["a", "b"]])), [("a", "b")]),
        ([("a", "b", "c")], None),
        ([("a", 1)], None),
        ([{"text": "a", "image": "b"}], None),
        (["ab"], None),
        ([3], None),
        ([], []),
    ],
)
def test_pairs_of_texts_are_told_from_other_inputs(inputs: list[Any], expected: Any) -> None:
    assert text_pairs(inputs) == expected


def test_inputs_that_are_no_texts_go_to_the_model_as_they_are_each_time() -> None:
    class Sums:
        def predict(self, pairs: Any) -> Any:
            return [float(sum(pair)) for pair in pairs]

    one, model = Session(), Sums()
    inputs: Any = [[1, 2], (3, 4), [1, 2]]
    one.prefetch(model, [(inputs, PLAIN)])
    assert predict(model, inputs, one=one).tolist() == [3, 7, 3]
    assert one.num_encoded == 3


@pytest.mark.parametrize(
    "form",
    [
        torch.tensor,
        lambda rows: torch.tensor(rows).numpy(),
        lambda rows: [torch.tensor(row) for row in rows],
        lambda rows: torch.tensor(rows)[:, None],
        lambda rows: rows,
    ],
)
def test_an_object_with_a_plain_predict_works_whatever_it_returns(form: Any) -> None:
    class Lengths:
        def predict(self, pairs: Any) -> Any:
            return form([float(len(left) + len(right)) for left, right in pairs])

    assert predict(Lengths(), [("a", "bb"), ("c", "")]).tolist() == [3, 1]


def test_a_predict_that_loses_pairs_is_refused() -> None:
    class Loses:
        def predict(self, pairs: Any) -> Any:
            return torch.ones(1)

    with pytest.raises(ValueError, match=r"Loses returned predictions of shape \(1,\) for 2 pairs"):
        predict(Loses(), [("a", "b"), ("c", "d")])


def test_a_single_pair_and_an_unknown_prompt_are_refused() -> None:
    with pytest.raises(TypeError, match="list of pairs"):
        predict(tiny_cross_encoder(), ("a", "b"))
    with pytest.raises(ValueError, match="'nope'"):
        predict(tiny_cross_encoder(prompts=PROMPTS), options=PredictOptions(prompt_name="nope"))
    with pytest.raises(ValueError, match="batch_size=0"):
        PredictOptions(batch_size=0)


@pytest.mark.parametrize("main", [True, False])
def test_a_bar_over_all_pairs_is_shown_on_the_main_process(
    main: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_cross_encoder()
    capsys.readouterr()
    monkeypatch.setattr(distributed, "is_main_process", lambda: main)
    predict(model, options=PredictOptions(show_progress_bar=True))
    shown = capsys.readouterr().err
    assert ("Predicting" in shown, "64/64" in shown) == (main, main)
