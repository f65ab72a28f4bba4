"""Several evaluators as one: the peer's result, one encoding, no key twice."""

from __future__ import annotations

from typing import Any

import pytest
from sentence_transformers.sentence_transformer import evaluation as peer
from support.models import StubModel, tiny_model
from support.parity import sentences

from st_eval_callbacks.evaluators import EmbeddingSimilarityEvaluator, SequentialEvaluator, TripletEvaluator

LEFT, RIGHT = sentences(20, 41), sentences(20, 42)
SCORES = [float(i % 5) for i in range(20)]


def parts(module: Any) -> list[Any]:
    return [
        module.EmbeddingSimilarityEvaluator(LEFT, RIGHT, SCORES, name="sts"),
        module.TripletEvaluator(LEFT, RIGHT, LEFT[::-1], name="nli"),
    ]


@pytest.mark.parametrize(
    "settings", [{}, {"main_score_function": sum}, {"main_score_function": lambda scores: scores[0]}]
)
def test_the_result_is_the_peers(settings: dict[str, Any]) -> None:
    from st_eval_callbacks import evaluators

    model = tiny_model()
    ours, theirs = (
        SequentialEvaluator(parts(evaluators), **settings),
        peer.SequentialEvaluator(parts(peer), **settings),
    )
    expected = theirs(model)
    result = ours(model)
    assert list(result) == list(expected)
    assert result == pytest.approx(expected, abs=1e-6)
    assert ours.primary_metric == theirs.primary_metric == "sequential_score"
    assert ours.metric_names is not None
    assert ours.metric_names(model) == list(result)
    assert isinstance(ours, peer.SequentialEvaluator)


def test_texts_that_both_ask_for_are_encoded_once() -> None:
    texts = sorted({*LEFT, *RIGHT})
    model = StubModel({text: [float(i), 1.0] for i, text in enumerate(texts)})
    SequentialEvaluator(
        [
            EmbeddingSimilarityEvaluator(LEFT, RIGHT, SCORES),
            EmbeddingSimilarityEvaluator(RIGHT, LEFT, SCORES, name="b"),
        ]
    )(model)
    assert sorted(model.encoded) == texts


def test_two_that_would_write_the_same_keys_are_refused() -> None:
    one = EmbeddingSimilarityEvaluator(LEFT, RIGHT, SCORES)
    with pytest.raises(ValueError, match="spearman|pearson"):
        SequentialEvaluator([one, EmbeddingSimilarityEvaluator(RIGHT, LEFT, SCORES)])
    SequentialEvaluator([one, TripletEvaluator(LEFT, RIGHT, RIGHT)])


def test_sizes_have_keys_of_their_own() -> None:
    def sts(**settings: Any) -> EmbeddingSimilarityEvaluator:
        return EmbeddingSimilarityEvaluator(LEFT, RIGHT, SCORES, name="sts", **settings)

    model = tiny_model()
    found = SequentialEvaluator([sts(), sts(truncate_dims=[8]), sts(truncate_dims=[4, 2])])(model)
    assert {"sts_spearman_cosine", "sts_8_spearman_cosine", "sts_4_spearman_cosine"} <= set(found)
    with pytest.raises(ValueError, match="sts_8"):
        SequentialEvaluator([sts(truncate_dims=[8]), sts(truncate_dims=[16, 8])])


def test_a_sequence_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no evaluators"):
        SequentialEvaluator([])
