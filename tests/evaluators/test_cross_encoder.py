"""What holds for every evaluator of cross-encoders; classification and correlation beside their peers."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import InputExample
from sentence_transformers.cross_encoder import evaluation as peer
from support.loop import make_trainer
from support.models import StubCrossEncoder, tiny_cross_encoder, tiny_model
from support.parity import assert_equal_to_peer, sentences

from st_eval_callbacks import EvaluatorCallback, evaluators
from st_eval_callbacks.evaluators import (
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
    CrossEncoderRerankingEvaluator,
    EmbeddingSimilarityEvaluator,
    SequentialEvaluator,
)

NUM = 60
PAIRS = list(zip(sentences(NUM, 1), sentences(NUM, 2), strict=True))
LABELS = [i * i % 5 % 2 for i in range(NUM)]
CLASSES = [i * i % 7 % 3 for i in range(NUM)]
SCORES = [random.Random(i).randint(0, 5) for i in range(NUM)]
SAMPLES = [
    {"query": query, "positive": [right], "negative": sentences(3, place)}
    for place, (query, right) in enumerate(PAIRS[:9])
]

BUILDERS: dict[str, Callable[..., Any]] = {
    "CrossEncoderClassificationEvaluator": lambda **kwargs: CrossEncoderClassificationEvaluator(
        PAIRS, LABELS, **kwargs
    ),
    "CrossEncoderCorrelationEvaluator": lambda **kwargs: CrossEncoderCorrelationEvaluator(PAIRS, SCORES, **kwargs),
    "CrossEncoderRerankingEvaluator": lambda **kwargs: CrossEncoderRerankingEvaluator(SAMPLES, **kwargs),
}
each = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def of_scores(scores: Any, num_labels: int = 1) -> tuple[StubCrossEncoder, list[tuple[str, str]]]:
    """A model with these predictions, and the pairs they are of."""
    pairs = [("a", f"b{number}") for number in range(len(scores))]
    return StubCrossEncoder(dict(zip(pairs, scores, strict=True)), num_labels), pairs


# -- all --------------------------------------------------------------------------------------------------------------


def test_every_evaluator_of_the_peer_is_bundled_and_checked() -> None:
    names = {name for name in peer.__all__ if name.startswith("CrossEncoder")}
    assert names <= set(evaluators.__all__)
    assert names - {"CrossEncoderNanoBEIREvaluator"} == set(BUILDERS)


@each
def test_two_calls_are_equal_and_the_keys_are_known_before(build: Any) -> None:
    model, evaluator = tiny_cross_encoder(), build()
    named = evaluator.metric_names(model)
    first = evaluator(model)
    assert list(first) == named
    assert evaluator(model) == first
    assert evaluator.primary_metric in first


@each
@pytest.mark.parametrize("name", ["dev", "spearman", "f1", "a/../b"])
def test_the_primary_metric_is_a_key_and_a_table_written_twice_has_one_header(
    build: Any, name: str, tmp_path: Path
) -> None:
    model, evaluator = tiny_cross_encoder(), build(name=name)
    for step in (3, 6):
        result = evaluator(model, str(tmp_path / "eval"), 0.5, step)
        assert evaluator.primary_metric in result
        assert all(key.startswith(f"{name}_") for key in result)
    [path] = tmp_path.rglob("*.csv")
    assert path.parent == tmp_path / "eval"
    header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
    assert [row[:2] for row in rows] == [["0.5", "3"], ["0.5", "6"]]
    assert {len(row) for row in rows} == {len(header)}


@each
def test_nothing_is_written_when_not_wanted(build: Any, tmp_path: Path) -> None:
    build(write_csv=False)(tiny_cross_encoder(), str(tmp_path))
    assert not list(tmp_path.iterdir())


@each
def test_training_goes_on_from_the_same_modes_and_random_numbers(build: Any) -> None:
    model = tiny_cross_encoder().train()
    state = torch.get_rng_state()
    build()(model)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


@each
def test_a_model_that_embeds_is_refused_by_name(build: Any) -> None:
    with pytest.raises(TypeError, match=r"SentenceTransformer \(a dense model\); it takes models of kind cross_enc"):
        build().metric_names(tiny_model())


@each
def test_a_model_that_embeds_is_refused_before_training(build: Any, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [EvaluatorCallback(build(), every=2)])
    with pytest.raises((TypeError, ValueError), match="SentenceTransformer"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_task_on_embeddings_refuses_a_cross_encoder_before_training(tmp_path: Path) -> None:
    left, right = zip(*PAIRS, strict=True)
    callback = EvaluatorCallback(EmbeddingSimilarityEvaluator(left, right, SCORES), every=2)
    trainer = make_trainer(tmp_path, [callback], "cross")
    with pytest.raises((TypeError, ValueError), match=r"CrossEncoder \(a cross_encoder model\)"):
        trainer.train()
    assert trainer.state.global_step == 0


@each
def test_an_unknown_prompt_is_refused_before_it_runs(build: Any) -> None:
    model = tiny_cross_encoder(prompts={"query": "find : "})
    with pytest.raises(ValueError, match=r"prompt_name='quary', but the model's prompts are .*query"):
        build(prompt_name="quary").metric_names(model)


@pytest.mark.parametrize("name", ["CrossEncoderCorrelationEvaluator", "CrossEncoderRerankingEvaluator"])
def test_a_task_for_one_score_a_pair_refuses_several_labels_before_it_runs(name: str) -> None:
    with pytest.raises(ValueError, match="num_labels=3"):
        BUILDERS[name]().metric_names(tiny_cross_encoder(num_labels=3))


def test_each_pair_is_predicted_once_by_all_evaluators_of_an_event() -> None:
    model = StubCrossEncoder({(left, right): float(len(left + right) % 7) for left in "xyz" for right in "abcdef"})
    pairs = [("x", "a"), ("x", "b"), ("y", "a"), ("x", "a")]
    each_one = [
        CrossEncoderClassificationEvaluator(pairs, [1, 0, 1, 0], name="c"),
        CrossEncoderCorrelationEvaluator([list(pair) for pair in pairs], [1, 2, 3, 4], name="s"),
        CrossEncoderRerankingEvaluator([{"query": "x", "positive": ["a"], "negative": ["b", "f"]}], name="r"),
    ]
    for _ in range(2):
        SequentialEvaluator(each_one)(model)
    assert len(model.calls) == 2
    assert sorted(model.calls[0][0]) == sorted({*pairs, ("x", "f")})
    assert sorted(model.calls[1][0]) == sorted(model.calls[0][0])


@pytest.mark.parametrize(("name", "default"), [(name, 64 if "Rerank" in name else 32) for name in BUILDERS])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_batch_size_is_obeyed_when_it_is_given(name: str, default: int, batch_size: int | None) -> None:
    model, sizes = tiny_cross_encoder(), []
    model[0].register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(args[0]["input_ids"])), with_kwargs=True
    )
    evaluator = BUILDERS[name](**({} if batch_size is None else {"batch_size": batch_size}))
    evaluator(model)
    assert evaluator.batch_size == batch_size or (batch_size is None and evaluator.batch_size == default)
    assert max(sizes) == 4 if batch_size else max(sizes) > 20


# -- classification ---------------------------------------------------------------------------------------------------

PROMPTED = {"prompts": {"query": "find : "}}


@pytest.mark.parametrize("settings", [{}, {"name": "dev", "batch_size": 7}, {"prompt_name": "query"}])
@pytest.mark.parametrize("num_labels", [1, 2, 3])
def test_classification_is_equal_to_the_peer(settings: Any, num_labels: int, tmp_path: Path, caplog: Any) -> None:
    model = tiny_cross_encoder(num_labels=num_labels, **PROMPTED)
    labels = CLASSES if num_labels == 3 else LABELS
    settings = {"show_progress_bar": False, **settings}
    ours, theirs = (kind.CrossEncoderClassificationEvaluator(PAIRS, labels, **settings) for kind in (evaluators, peer))
    assert_equal_to_peer(ours, theirs, model, tmp_path, caplog)
    assert model.model_card_data.eval_results_dict[ours] == pytest.approx(
        model.model_card_data.eval_results_dict[theirs], abs=1e-6
    )


@pytest.mark.parametrize("seed", range(4))
def test_classification_of_chosen_scores_with_ties_is_equal_to_the_peer(
    seed: int, tmp_path: Path, caplog: Any
) -> None:
    chooser = random.Random(seed)
    for num_labels, number in ((1, 0), (3, 1)):
        rows = [[chooser.randint(0, 6) / 8 for _ in range(num_labels)] for _ in range(40)]
        model, pairs = of_scores([row[0] for row in rows] if num_labels == 1 else rows, num_labels)
        labels = [chooser.randrange(2 if num_labels == 1 else 4) for _ in rows]
        settings = {"show_progress_bar": False}
        ours, theirs = (
            kind.CrossEncoderClassificationEvaluator(pairs, labels, **settings) for kind in (evaluators, peer)
        )
        warned = ours.label + ": " + (f"{labels.count(3)} of 40 labels are no class of the model (0 to 2), so it ")
        more = [warned + "cannot predict them."]
        assert_equal_to_peer(ours, theirs, model, tmp_path / str(number), caplog, more_lines=more)


def test_without_a_positive_label_average_precision_is_nan_with_a_warning(caplog: Any) -> None:
    model, pairs = of_scores([0.1, 0.2])
    with pytest.warns(UserWarning, match="No positive class"):
        theirs = peer.CrossEncoderClassificationEvaluator(pairs, [0, 0])(model)
    caplog.clear()
    ours = CrossEncoderClassificationEvaluator(pairs, [0, 0])(model)
    assert theirs["average_precision"] == 0
    assert math.isnan(ours["average_precision"])
    assert ours["accuracy"] == 1
    assert "average precision needs at least one pair with label 1" in caplog.text


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("num_labels", [1, 3])
def test_a_prediction_that_is_not_finite_makes_every_metric_nan_with_one_warning(
    bad: float, num_labels: int, caplog: Any
) -> None:
    rows = [[0.1, 0.5, 0.2][:num_labels], [bad, 0.1, 0.1][:num_labels]]
    model, pairs = of_scores([row[0] for row in rows] if num_labels == 1 else rows, num_labels)
    result = CrossEncoderClassificationEvaluator(pairs, [0, 1], name="dev")(model)
    assert all(math.isnan(value) for value in result.values())
    assert [f"1 of {2 * num_labels} predictions are not finite" in one.getMessage() for one in caplog.records] == [
        True
    ]


@pytest.mark.parametrize(("row", "num_labels"), [(0.5, 1), ([0.5, 0.2], 2)])
def test_a_collapsed_model_draws_a_warning(row: Any, num_labels: int, caplog: Any) -> None:
    model, pairs = of_scores([row] * 4, num_labels)
    CrossEncoderClassificationEvaluator(pairs, [0, 1, 1, 0])(model)
    assert [record.getMessage().split(":")[1] for record in caplog.records] == [
        " all 4 pairs have the same prediction"
    ]


@pytest.mark.parametrize(
    ("pairs", "labels", "message"),
    [
        ([], [], "nothing to evaluate"),
        ([("a", "b")], [0, 1], "1 sentence_pairs, 2 labels"),
        ([("a", "b")], [0.5], "labels must be whole numbers; 1 are not, the first is 0.5"),
        ([("a", "b")], [math.nan], "labels must be whole numbers"),
        ([("a", "b")], ["yes"], "labels must be whole numbers, but are of type"),
        ([("a", "b")], [[0, 1]], "one number a pair"),
        ([("a", "b"), ("a",)], [0, 1], "pair 1 is"),
        (["ab"], [0], "pair 0 is 'ab'"),
    ],
)
def test_what_cannot_be_classified_is_refused_at_construction(pairs: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossEncoderClassificationEvaluator(pairs, labels)


def test_labels_that_do_not_fit_a_model_with_one_label_are_refused_before_it_runs() -> None:
    evaluator = CrossEncoderClassificationEvaluator(PAIRS, CLASSES)
    assert evaluator.metric_names(tiny_cross_encoder(num_labels=3)) == ["f1_macro", "f1_micro", "f1_weighted"]
    with pytest.raises(ValueError, match=r"the model has one label, so labels must be 0 or 1; \d+ are not"):
        evaluator.metric_names(tiny_cross_encoder())


def test_predictions_of_another_width_than_the_model_says_are_refused() -> None:
    model, pairs = of_scores([[0.1, 0.2], [0.3, 0.1]])
    with pytest.raises(ValueError, match=r"num_labels=1, but its predictions for 2 pairs have the shape \(2, 2\)"):
        CrossEncoderClassificationEvaluator(pairs, [0, 1])(model)


# -- correlation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"name": "dev", "batch_size": 7}, {"prompt_name": "query"}])
def test_correlation_is_equal_to_the_peer(settings: Any, tmp_path: Path, caplog: Any) -> None:
    settings = {"show_progress_bar": False, **settings}
    ours, theirs = (kind.CrossEncoderCorrelationEvaluator(PAIRS, SCORES, **settings) for kind in (evaluators, peer))
    assert_equal_to_peer(ours, theirs, tiny_cross_encoder(**PROMPTED), tmp_path, caplog)


@pytest.mark.parametrize("seed", range(4))
def test_correlation_of_chosen_scores_with_ties_is_equal_to_the_peer(seed: int, tmp_path: Path, caplog: Any) -> None:
    chooser = random.Random(seed)
    model, pairs = of_scores([chooser.randint(0, 6) / 8 for _ in range(30)])
    judged = np.array([chooser.randint(0, 4) for _ in range(30)])
    settings = {"show_progress_bar": False}
    ours, theirs = (kind.CrossEncoderCorrelationEvaluator(pairs, judged, **settings) for kind in (evaluators, peer))
    assert_equal_to_peer(ours, theirs, model, tmp_path, caplog)


def test_a_correlation_is_made_from_input_examples() -> None:
    examples = [
        InputExample(texts=list(pair), label=score)  # type: ignore[arg-type]
        for pair, score in zip(PAIRS, SCORES, strict=True)
    ]
    ours = CrossEncoderCorrelationEvaluator.from_input_examples(examples, name="dev")
    model = tiny_cross_encoder()
    assert ours(model) == CrossEncoderCorrelationEvaluator(PAIRS, SCORES, name="dev")(model)


@pytest.mark.parametrize(
    ("scores", "warning"),
    [
        ([0.5, 0.5, 0.5], "a correlation needs two different scores"),
        ([0.5, math.nan, 0.1], "1 of 3 predictions are not finite"),
        ([0.5, -math.inf, 0.1], "1 of 3 predictions are not finite"),
    ],
)
def test_a_correlation_without_a_value_is_nan_with_one_warning(scores: Any, warning: str, caplog: Any) -> None:
    model, pairs = of_scores(scores)
    result = CrossEncoderCorrelationEvaluator(pairs, [1, 2, 3])(model)
    assert all(math.isnan(value) for value in result.values())
    assert [warning in record.getMessage() for record in caplog.records] == [True]


def test_a_correlation_without_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to evaluate"):
        CrossEncoderCorrelationEvaluator([], [])
    with pytest.raises(ValueError, match="1 sentence_pairs, 2 scores"):
        CrossEncoderCorrelationEvaluator([("a", "b")], [1, 2])
