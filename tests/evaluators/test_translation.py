"""Translation: the peer's values, texts that come twice, and what is not finite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer import evaluation as peer
from support.models import StubModel, tiny_model
from support.parity import assert_equal_to_peer, sentences

from st_eval_callbacks.evaluators import TranslationEvaluator


@pytest.mark.parametrize("settings", [{}, {"name": "en-de", "batch_size": 3}, {"truncate_dim": 3}])
def test_it_is_equal_to_the_peer(settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = list(dict.fromkeys(sentences(50, 21)))
    target = [" ".join(reversed(text.split())) for text in source]
    ours, theirs = (kind(source, target, **settings) for kind in (TranslationEvaluator, peer.TranslationEvaluator))
    assert_equal_to_peer(ours, theirs, tiny_model(), tmp_path, caplog)


def test_a_text_that_comes_twice_is_right_in_either_place() -> None:
    texts = ["cat", "hello", "dog", "hello"]
    model = StubModel({"cat": [1, 0, 0], "hello": [0, 1, 0], "dog": [0, 0, 1]})
    assert set(TranslationEvaluator(texts, texts)(model).values()) == {1.0}


def test_lists_of_many_blocks_are_equal_to_the_peer() -> None:
    generator = torch.Generator().manual_seed(0)
    source = [f"s{i}" for i in range(2500)]
    target = [f"t{i % 2400}" for i in range(2500)]  # some targets come twice, in different blocks
    left = torch.randn(2500, 8, generator=generator)
    right = left[:2400] + 0.5 * torch.randn(2400, 8, generator=generator)
    vectors = dict(zip(source, left.tolist(), strict=True)) | {f"t{i}": row for i, row in enumerate(right.tolist())}
    model = StubModel(vectors)
    expected = peer.TranslationEvaluator(source, target)(model)
    assert 0 < expected["mean_accuracy"] < 1
    assert TranslationEvaluator(source, target)(model) == pytest.approx(expected, abs=1e-6)


def test_wrong_matches_are_printed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    model = StubModel({"one": [1, 0], "two": [0, 1], "eins": [0, 1], "zwei": [1, 0]})
    result = TranslationEvaluator(["one", "two"], ["eins", "zwei"], print_wrong_matches=True)(model)
    assert result["mean_accuracy"] == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("one", "eins", "zwei"))


def test_nan_embeddings_give_nan_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = StubModel({"a": [1, 0], "b": [math.nan, 1]})
    result = TranslationEvaluator(["a", "b"], ["a", "b"])(model)
    assert all(math.isnan(value) for value in result.values())
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("source", "target"), [([], []), (["a"], ["a", "b"])])
def test_no_sentences_or_unequal_lists_are_refused(source: list[str], target: list[str]) -> None:
    with pytest.raises(ValueError, match="sentences"):
        TranslationEvaluator(source, target)
