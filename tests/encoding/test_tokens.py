from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
import torch
from support.models import TEXTS, tiny_model, tiny_router_model, tiny_static_model

from st_eval_callbacks.encoding import EncodeOptions, Session
from st_eval_callbacks.encoding.token_store import _STORES, TokenStore, token_store

QUERY = EncodeOptions(task="query")


def counted(model: Any) -> list[str]:
    """Texts that the model tokenises from now on, without those that probe the layout."""
    seen: list[str] = []
    own = model[0].preprocess

    def preprocess(inputs: list[str], **kwargs: Any) -> Any:
        seen.extend(text for text in inputs if not text.startswith("a a") and text != "a")
        return own(inputs, **kwargs)

    model[0].preprocess = preprocess
    return seen


@pytest.mark.parametrize("make", [tiny_model, tiny_static_model, tiny_router_model])
def test_texts_are_tokenised_once_over_all_evaluations(make: Any) -> None:
    model = make()
    seen = counted(model)
    rows = [Session().lookup(model, TEXTS, QUERY).rows() for _ in range(3)]
    assert sorted(seen) == sorted(set(TEXTS))
    assert torch.equal(rows[0], rows[2])


def test_new_weights_give_new_embeddings_of_the_same_tokens() -> None:
    model = tiny_model()
    before = Session().lookup(model, TEXTS).rows()
    with torch.no_grad():
        model[0].model.embeddings.word_embeddings.weight.mul_(1.5)
    after = Session().lookup(model, TEXTS).rows()
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model.encode(TEXTS, convert_to_tensor=True), atol=1e-5, rtol=0)


@pytest.mark.parametrize("setting", ["max_seq_length", "truncation_side", "vocabulary"])
def test_kept_tokens_are_dropped_when_the_tokenizer_changes(setting: str) -> None:
    model = tiny_model()
    model.max_seq_length = 8
    Session().lookup(model, TEXTS)
    if setting == "max_seq_length":
        model.max_seq_length = 5
    elif setting == "truncation_side":
        model.tokenizer.truncation_side = "left"
    else:
        model.tokenizer.add_tokens(["unknownword"])
        model[0].model.resize_token_embeddings(len(model.tokenizer))
    rows = Session().lookup(model, TEXTS).rows()
    torch.testing.assert_close(rows, model.encode(TEXTS, convert_to_tensor=True), atol=1e-5, rtol=0)


def test_the_store_goes_with_its_model() -> None:
    gc.collect()
    before = len(_STORES)
    model = tiny_model()
    Session().lookup(model, TEXTS)
    assert len(_STORES) == before + 1
    del model
    gc.collect()
    assert len(_STORES) == before


def keys(texts: str) -> list[tuple[str, None, None]]:
    return [(text, None, None) for text in texts]


def test_the_store_stays_within_its_bound() -> None:
    store = TokenStore(max_bytes=5000)
    for event in range(3):
        for number in range(100):
            store.put((f"{event} {number}", None, None), b"1234" * 10, event)
            assert store.num_bytes <= 5000
    assert 10 < len(store) < 20


def test_a_corpus_too_large_for_the_store_keeps_the_part_that_fits() -> None:
    store = TokenStore(max_bytes=3 * 300)
    for event in range(1, 4):
        found = []
        for key in keys("abcdef"):
            if store.get(key, event) is None:
                store.put(key, b"1234", event)
            else:
                found.append(key[0])
        assert found == ([] if event == 1 else ["a", "b", "c"])


def test_texts_that_an_evaluation_no_longer_uses_make_room() -> None:
    store = TokenStore(max_bytes=3 * 300)
    for key in keys("abc"):
        store.put(key, b"1234", 1)
    store.get(("b", None, None), 2)
    for key in keys("xyz"):
        store.put(key, b"1234", 2)
    assert [key[0] for key in keys("abcxyz") if store.get(key, 2) is not None] == ["b", "x", "y"]


def test_a_store_without_room_changes_no_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(token_store(model), "max_bytes", 0)
    rows = Session().lookup(model, TEXTS).rows()
    assert len(token_store(model)) == 0
    torch.testing.assert_close(rows, model.encode(TEXTS, convert_to_tensor=True), atol=1e-5, rtol=0)


def out_of_memory_above(model: Any, num_tokens: int) -> list[int]:
    """Padded tokens in the batches that the model sees; larger ones than `num_tokens` don't fit."""
    sizes: list[int] = []

    def check(module: Any, args: Any) -> None:
        sizes.append(args[0]["input_ids"].numel())
        if sizes[-1] > num_tokens:
            raise torch.cuda.OutOfMemoryError("out of memory")

    model.register_forward_pre_hook(check)
    return sizes


def test_batches_shrink_until_they_fit_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model()
    expected = model.encode(TEXTS, convert_to_tensor=True)
    sizes = out_of_memory_above(model, 40)
    with caplog.at_level(logging.WARNING):
        rows = Session().lookup(model, TEXTS).rows()
        torch.testing.assert_close(rows, expected, atol=1e-5, rtol=0)
        assert any(size > 40 for size in sizes)
        sizes.clear()
        # What was learnt holds for the next evaluation.
        rows = Session().lookup(model, TEXTS).rows()
        torch.testing.assert_close(rows, expected, atol=1e-5, rtol=0)
        assert max(sizes) <= 40
    assert sum("memory" in record.message for record in caplog.records) == 1


def test_a_single_text_that_does_not_fit_raises() -> None:
    model = tiny_model().train()
    out_of_memory_above(model, 0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        Session().lookup(model, TEXTS)
    assert model.training
