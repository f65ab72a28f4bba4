"""Semantic similarity: the peer's values in every precision, and what has no value."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from sentence_transformers.sentence_transformer import evaluation as peer
from sentence_transformers.sentence_transformer.readers import InputExample
from support.models import StubModel, tiny_model
from support.parity import assert_equal_to_peer, sentences

from st_eval_callbacks.evaluators import EmbeddingSimilarityEvaluator

ALL = ["cosine", "dot", "euclidean", "manhattan"]


def pairs(num: int = 40) -> tuple[list[str], list[str], list[float]]:
    chooser = random.Random(2)
    return sentences(num, 6), sentences(num, 7), [float(chooser.randint(0, 5)) for _ in range(num)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"name": "dev"},
        {"similarity_fn_names": ALL, "batch_size": 5},
        {"main_similarity": "dot"},
        {"similarity_fn_names": ["dot", "cosine"], "main_similarity": "cosine"},
        {"truncate_dim": 5},
        *({"precision": precision, "name": "q"} for precision in ("float32", "int8", "uint8", "binary", "ubinary")),
    ],
)
def test_it_is_equal_to_the_peer(settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = pairs()
    ours, theirs = (
        EmbeddingSimilarityEvaluator(*data, **settings),
        peer.EmbeddingSimilarityEvaluator(*data, **settings),
    )
    assert_equal_to_peer(ours, theirs, tiny_model(), tmp_path, caplog)


@pytest.mark.parametrize("vectors", [{"a": [1, 0], "b": [1, 0], "c": [1, 0]}, {"a": [1, 0], "b": [2, 0], "c": [3, 0]}])
def test_equal_similarities_have_no_correlation_and_this_is_said(
    vectors: Any, caplog: pytest.LogCaptureFixture
) -> None:
    evaluator = EmbeddingSimilarityEvaluator(["a", "b", "c"], ["a", "c", "b"], [1, 2, 3])
    assert all(math.isnan(value) for value in evaluator(StubModel(vectors)).values())
    assert "undefined" in caplog.text


def test_one_pair_has_no_correlation_and_no_pair_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    result = EmbeddingSimilarityEvaluator(["a"], ["b"], [1.0])(StubModel({"a": [1, 0], "b": [0, 1]}))
    assert all(math.isnan(value) for value in result.values())
    assert "undefined" in caplog.text
    with pytest.raises(ValueError, match="nothing to evaluate"):
        EmbeddingSimilarityEvaluator([], [], [])
    with pytest.raises(ValueError, match="2 sentences1, 1 sentences2"):
        EmbeddingSimilarityEvaluator(["a", "b"], ["a"], [1.0])


@pytest.mark.parametrize("names", [["cosine", "dot"], ["dot", "cosine"]])
def test_a_maximum_with_an_undefined_part_is_undefined_in_every_order(names: Any) -> None:
    vectors = {"a": [1, 0], "b": [2, 0], "c": [3, 0]}
    evaluator = EmbeddingSimilarityEvaluator(["a", "b", "c"], ["a", "c", "b"], [1, 2, 3], similarity_fn_names=names)
    result = evaluator(StubModel(vectors))
    assert math.isfinite(result["spearman_dot"])
    assert math.isnan(result["spearman_max"])
    assert evaluator.primary_metric == "spearman_max"


def test_nan_embeddings_give_nan_and_one_warning_that_counts(caplog: pytest.LogCaptureFixture) -> None:
    model = StubModel({"a": [1, 0], "b": [float("nan"), 0], "c": [0, 1]})
    result = EmbeddingSimilarityEvaluator(["a", "a", "c"], ["b", "c", "c"], [1, 2, 3])(model)
    assert all(math.isnan(value) for value in result.values())
    assert len(caplog.records) == 1
    assert "1 of 3 similarities are not finite" in caplog.text


def test_half_precision_is_compared_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(30, 8, generator=generator).half() for _ in range(2))
    vectors = {f"l{i}": row.tolist() for i, row in enumerate(left)} | {
        f"r{i}": row.tolist() for i, row in enumerate(right)
    }
    scores = list(range(30))
    evaluator = EmbeddingSimilarityEvaluator([f"l{i}" for i in scores], [f"r{i}" for i in scores], scores)
    expected = spearmanr(scores, torch.nn.functional.cosine_similarity(left.double(), right.double())).statistic
    assert evaluator(StubModel(vectors, dtype=torch.float16))["spearman_cosine"] == pytest.approx(expected, abs=1e-9)


def test_the_similarity_is_each_models_own() -> None:
    vectors = {"a": [1, 0], "b": [2, 1], "c": [0, 3]}
    evaluator = EmbeddingSimilarityEvaluator(["a", "b", "c"], ["b", "c", "a"], [1, 2, 3])
    for name in ("cosine", "dot"):
        assert set(evaluator(StubModel(vectors, name))) == {f"pearson_{name}", f"spearman_{name}"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"similarity_fn_names": ["cosin"]}, "Did you mean 'cosine'"),
        ({"precision": "int4"}, "int8"),
        ({"truncate_dim": 0}, "truncate_dim=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EmbeddingSimilarityEvaluator(["a"], ["b"], [1.0], **settings)


def test_it_is_made_of_input_examples() -> None:
    examples = [InputExample(texts=["a", "b"], label=0.5), InputExample(texts=["c", "d"], label=1.0)]
    evaluator = EmbeddingSimilarityEvaluator.from_input_examples(examples, name="x")
    assert (evaluator.sentences1, evaluator.sentences2, evaluator.scores) == (["a", "c"], ["b", "d"], [0.5, 1.0])
