"""Which models are cross-encoders, and what can be asked of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.models import TEXTS, StubCrossEncoder, StubModel, tiny_cross_encoder, tiny_model

from st_eval_callbacks.encoding import EncodeOptions, PredictOptions, session
from st_eval_callbacks.scorers import CrossEncoderScorer, Wish, num_labels, scorer_for

PAIRS = [(left, right) for left in TEXTS[:4] for right in TEXTS[:4]]


@pytest.mark.parametrize("make", [tiny_cross_encoder, lambda: StubCrossEncoder({})])
def test_models_that_predict_and_do_not_encode_are_cross_encoders(make: Any) -> None:
    scorer = scorer_for(make())
    assert isinstance(scorer, CrossEncoderScorer)
    assert scorer.kind == "cross_encoder"


def test_an_object_that_does_both_is_asked_for_embeddings() -> None:
    class Both(StubModel, StubCrossEncoder):
        pass

    assert scorer_for(Both({})).kind == "dense"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (tiny_cross_encoder, 1),
        (lambda: tiny_cross_encoder(num_labels=3), 3),
        (lambda: StubCrossEncoder({}, 2), 2),
        (object, 1),
    ],
)
def test_the_number_of_labels_is_the_models_and_one_where_it_says_nothing(make: Any, expected: int) -> None:
    assert num_labels(make()) == expected


def test_predictions_are_those_of_the_model() -> None:
    model = tiny_cross_encoder()
    found = scorer_for(model).predict(PAIRS, PredictOptions(activation_fn=torch.nn.Identity()))
    expected = model.predict(PAIRS, convert_to_tensor=True, activation_fn=torch.nn.Identity())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_no_pairs_have_no_predictions() -> None:
    assert scorer_for(StubCrossEncoder({})).predict([]).shape == (0,)


def test_what_is_prepared_is_scored_together_and_kept() -> None:
    model = StubCrossEncoder({(a, b): 1.0 for a in "abc" for b in "abc"})
    scorer = scorer_for(model)
    with session():
        scorer.prepare([Wish([("a", "b")], PredictOptions()), Wish([("a", "b"), ("b", "c")], PredictOptions())])
        scorer.predict([("b", "c"), ("a", "b")])
    assert model.predicted == [("a", "b"), ("b", "c")]
    assert len(model.calls) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda scorer: scorer.embed(["a"], EncodeOptions()),
        lambda scorer: scorer.pairwise(["a"], ["b"], ["cosine"]),
        lambda scorer: scorer.search(["a"], ["b"], 1, {"cosine": "cosine"}),
        lambda scorer: scorer.similarity_fn_name,
    ],
)
def test_what_needs_embeddings_is_refused_by_name(ask: Any) -> None:
    with pytest.raises(TypeError, match=r"StubCrossEncoder \(a cross_encoder model\) has no"):
        ask(scorer_for(StubCrossEncoder({})))


@pytest.mark.parametrize("make", [tiny_model, lambda: StubModel({})])
def test_models_that_embed_score_no_pairs(make: Any) -> None:
    with pytest.raises(TypeError, match=r"\(a dense model\) embeds texts; it does not score pairs"):
        scorer_for(make()).predict([("a", "b")])


def test_an_object_without_predict_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="object has no predict"):
        CrossEncoderScorer(object())
