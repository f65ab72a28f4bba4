"""What holds for one trainer of sentence-transformers holds for all four."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sentence_transformers.base.evaluation import SequentialEvaluator as OtherSequentialEvaluator
from sentence_transformers.cross_encoder.evaluation import (
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
)
from sentence_transformers.multi_vector_encoder.evaluation import (
    MultiVectorInformationRetrievalEvaluator,
    MultiVectorTripletEvaluator,
)
from sentence_transformers.sentence_transformer.evaluation import TripletEvaluator
from sentence_transformers.sparse_encoder.callbacks.splade_callbacks import SpladeRegularizerWeightSchedulerCallback
from sentence_transformers.sparse_encoder.evaluation import (
    SparseEmbeddingSimilarityEvaluator,
    SparseInformationRetrievalEvaluator,
)
from support.cards import card_metrics, marked_steps, training_rows
from support.loop import (
    KINDS,
    WORDS,
    Fake,
    at_steps,
    checkpoints,
    crash,
    equal_weights,
    logged,
    make_trainer,
    read_results,
    splade_loss,
    strict_state,
    weights_of,
    without_times,
)
from transformers import DefaultFlowCallback, EarlyStoppingCallback, TrainerCallback

from st_eval_callbacks import EvaluatorCallback
from st_eval_callbacks.evaluators import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    SequentialEvaluator,
)

NAN = float("nan")
VALUES = at_steps(0.5, 0.4, 0.9, 0.1)
LEFT = [f"{WORDS[i]} {WORDS[(i + 1) % 8]}" for i in range(8)]
RIGHT = [f"{WORDS[(2 * i) % 8]} {WORDS[(i + 3) % 8]}" for i in range(8)]
SCORES = [i / 7 for i in range(8)]
RETRIEVAL: dict[str, Any] = {
    "queries": {f"q{i}": text for i, text in enumerate(LEFT)},
    "corpus": {f"d{i}": text for i, text in enumerate(RIGHT)},
    "relevant_docs": {f"q{i}": {f"d{i}"} for i in range(8)},
}
TRIPLETS = (LEFT, RIGHT, RIGHT[1:] + RIGHT[:1])

# torch says so once a process, wherever the first sparse embeddings are counted.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
every_kind = pytest.mark.parametrize("kind", KINDS)


# -- when, and which is kept ------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(
    "save",
    [{"save_strategy": "steps", "save_steps": 4}, {"save_strategy": "best", "metric_for_best_model": "fake_score"}],
    ids=["steps", "best"],
)
def test_the_best_is_logged_once_saved_and_loaded_bit_for_bit(tmp_path: Path, kind: str, save: dict[str, Any]) -> None:
    fake = Fake(VALUES)
    trainer = make_trainer(tmp_path, [EvaluatorCallback(fake, every=2, load_best_model_at_end=True)], kind, **save)
    trainer.train()
    assert fake.steps == [2, 4, 6, 8]
    assert logged(trainer, "eval_fake_score") == list(VALUES.items())
    assert [step for step, _ in logged(trainer, "loss")] == list(range(1, 9))
    rows = read_results(tmp_path)
    assert dict(zip(rows["steps"], rows["fake_score"], strict=True)) == VALUES
    assert rows["is_best"].tolist() == [1, 0, 1, 0]
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.9, 6)
    assert checkpoints(tmp_path) == ([2, 4, 6, 8] if save["save_strategy"] == "steps" else [2, 6])
    assert equal_weights(weights_of(trainer.model), fake.weights[6])


@every_kind
@pytest.mark.parametrize(
    ("values", "best", "trainer_evaluates"),
    [((NAN, NAN, NAN, NAN), (None, None), True), ((NAN, 0.4, NAN, 0.2), (0.4, 4), False)],
)
def test_nan_never_wins_and_the_state_is_strict_json(
    tmp_path: Path, kind: str, values: tuple[float, ...], best: tuple[Any, Any], trainer_evaluates: bool
) -> None:
    arguments: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2} if trainer_evaluates else {}
    callback = EvaluatorCallback(Fake(at_steps(*values)), every=None if trainer_evaluates else 2)
    trainer = make_trainer(
        tmp_path,
        [callback],
        kind,
        eval_dataset=KINDS[kind].dataset(),
        save_strategy="steps",
        save_steps=8,
        **arguments,
    )
    trainer.train()
    assert (trainer.state.best_metric, trainer.state.best_global_step) == best
    assert strict_state(tmp_path, 8)["best_metric"] == best[0]


@every_kind
@pytest.mark.parametrize("first", [True, False])
def test_early_stopping_counts_right_wherever_it_stands(tmp_path: Path, kind: str, first: bool) -> None:
    fake = Fake(at_steps(0.2, 0.8, 0.5, 0.1, 0.1, 0.1))
    callbacks: list[Any] = [EarlyStoppingCallback(2), EvaluatorCallback(fake)]
    trainer = make_trainer(
        tmp_path,
        callbacks if first else callbacks[::-1],
        kind,
        eval_dataset=KINDS[kind].dataset(),
        num_train_epochs=3,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="fake_score",
    )
    trainer.train()
    assert trainer.state.global_step == 8
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.8, 4)
    assert equal_weights(weights_of(trainer.model), fake.weights[4])


# -- resume, and nothing else changes ---------------------------------------------------------------------------------


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("load", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, kind: str, load: bool) -> None:
    arguments = {"kind": kind, "save_strategy": "steps", "save_steps": 4, "load_best_model_at_end": load}
    if load:
        # The Trainer evaluates too, so that its losses are in the card.
        arguments |= {"eval_strategy": "steps", "eval_steps": 4, "eval_dataset": KINDS[kind].dataset()}
        arguments["metric_for_best_model"] = "fake_score"

    def callbacks() -> list[Any]:
        return [EvaluatorCallback(Fake(VALUES), every=2)]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    uninterrupted = make_trainer(whole, callbacks(), **arguments)
    uninterrupted.train()
    crash(cut, 5, callbacks(), **arguments)
    resumed = make_trainer(cut, callbacks(), **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert without_times(resumed.state.log_history) == without_times(uninterrupted.state.log_history)
    results = [read_results(folder).drop(columns="seconds") for folder in (cut, whole)]
    pd.testing.assert_frame_equal(*results)
    assert (resumed.state.best_metric, resumed.state.best_global_step) == (0.9, 6)
    assert equal_weights(weights_of(resumed.model), weights_of(uninterrupted.model))
    for trainer, folder in ((resumed, cut), (uninterrupted, whole)):
        trainer.save_model(str(folder / "final"))
    rows = training_rows(cut / "final")
    assert rows == training_rows(whole / "final")
    assert [int(row["Step"].strip("*")) for row in rows] == list(range(1, 9))
    assert card_metrics(cut / "final") == card_metrics(whole / "final")


@every_kind
def test_losses_and_weights_are_the_same_with_and_without_the_callback(tmp_path: Path, kind: str) -> None:
    models = [KINDS[kind].model(dropout=0.2) for _ in range(2)]
    plain = make_trainer(tmp_path / "plain", kind=kind, model=models[0])
    plain.train()
    callback = EvaluatorCallback([Fake(), *OWN[kind]()], every=1)
    watched = make_trainer(tmp_path / "watched", [callback], kind, model=models[1])
    watched.train()
    assert len({value for _, value in logged(plain, "loss")}) == 8
    assert logged(watched, "loss") == logged(plain, "loss")
    assert equal_weights(weights_of(watched.model), weights_of(plain.model))


# -- the model card ---------------------------------------------------------------------------------------------------


@every_kind
def test_the_card_tells_of_the_loaded_best_and_each_checkpoints_of_itself(tmp_path: Path, kind: str) -> None:
    callback = EvaluatorCallback(Fake(VALUES), every=2, load_best_model_at_end=True)
    trainer = make_trainer(tmp_path, [callback], kind, save_strategy="steps", save_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    assert card_metrics(tmp_path / "final") == {("fake", "score"): 0.9}
    rows = training_rows(tmp_path / "final")
    assert marked_steps(rows) == [6]
    assert [row["fake_score"] for row in rows] == ["-", "0.5", "-", "0.4", "-", "**0.9**", "-", "0.1"]
    assert "-" not in [row["Training Loss"].strip("*") for row in rows]
    for step in range(1, 9):
        of_step = {("fake", "score"): VALUES[step]} if step in VALUES else {}
        assert card_metrics(tmp_path / f"checkpoint-{step}") == of_step
        assert len(training_rows(tmp_path / f"checkpoint-{step}")) == step


@every_kind
def test_the_cards_training_table_is_the_trainers_own_with_our_metrics_beside(tmp_path: Path, kind: str) -> None:
    arguments = {"eval_strategy": "steps", "eval_steps": 4, "eval_dataset": KINDS[kind].dataset()}
    plain = make_trainer(tmp_path, kind=kind, **arguments)
    plain.train()
    plain.save_model(str(tmp_path / "plain"))
    watched = make_trainer(
        tmp_path, [EvaluatorCallback(Fake(at_steps(0.5, NAN, 0.9, 0.1)), every=2)], kind, **arguments
    )
    watched.train()
    watched.save_model(str(tmp_path / "watched"))
    rows = training_rows(tmp_path / "watched")
    shown = [row.pop("fake_score") for row in rows]
    assert shown == ["-", "0.5", "-", "nan", "-", "0.9", "-", "0.1"]
    assert rows == training_rows(tmp_path / "plain")


# -- sentence-transformers' own evaluators ----------------------------------------------------------------------------

OWN: dict[str, Callable[[], list[Any]]] = {
    "dense": lambda: [TripletEvaluator(*TRIPLETS, name="own")],
    "sparse": lambda: [
        SparseEmbeddingSimilarityEvaluator(LEFT, RIGHT, SCORES, name="own"),
        SparseInformationRetrievalEvaluator(**RETRIEVAL, name="retrieval"),
    ],
    "cross": lambda: [
        CrossEncoderCorrelationEvaluator(list(zip(LEFT, RIGHT, strict=True)), SCORES, name="own"),
        CrossEncoderClassificationEvaluator(list(zip(LEFT, RIGHT, strict=True)), [1, 0] * 4, name="classes"),
    ],
    "multi_vector": lambda: [
        MultiVectorTripletEvaluator(*TRIPLETS, name="own"),
        MultiVectorInformationRetrievalEvaluator(**RETRIEVAL, name="retrieval"),
    ],
}
KEY = {
    "dense": "own_cosine_accuracy",
    "sparse": "own_spearman_dot",
    "cross": "own_spearman",
    "multi_vector": "own_maxsim_accuracy",
}


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("stated", [True, False])
def test_own_evaluators_of_the_kind_measure_what_they_measure_by_hand(tmp_path: Path, kind: str, stated: bool) -> None:
    arguments = {"kind": kind, "save_strategy": "steps", "save_steps": 4}
    if stated:
        arguments["metric_for_best_model"] = KEY[kind]
    crash(tmp_path, 7, [EvaluatorCallback(OWN[kind](), every=2)], **arguments)
    callback = EvaluatorCallback(OWN[kind](), every=2, load_best_model_at_end=True)
    trainer = make_trainer(tmp_path, [callback], **arguments)
    trainer.train(resume_from_checkpoint=True)
    assert [record.step for record in callback.history] == [2, 4, 6, 8]
    best = callback.history.best(KEY[kind])
    assert best is not None
    assert trainer.state.best_global_step == best.step
    for step in (4, 8, best.step):
        loaded = type(trainer.model)(str(tmp_path / f"checkpoint-{step}"), device="cpu")
        by_hand = {key: value for evaluator in OWN[kind]() for key, value in evaluator(loaded).items()}
        record = callback.history.at(step)
        assert record is not None
        assert record.metrics == by_hand
    for evaluator in OWN[kind]():
        with (tmp_path / "eval" / evaluator.csv_file).open(newline="") as stream:
            assert [row["steps"] for row in csv.DictReader(stream)] == ["2", "4", "6", "8"]


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind in OWN for place in range(len(OWN[kind]()))])
@pytest.mark.parametrize("given_name", [None, "dev"])
def test_an_own_evaluator_decides_by_its_primary_metric_when_no_metric_is_given(
    tmp_path: Path, kind: str, place: int, given_name: str | None
) -> None:
    evaluator = OWN[kind]()[place]
    callback = EvaluatorCallback(evaluator if given_name is None else {given_name: evaluator}, every=4)
    trainer = make_trainer(tmp_path, [callback], kind, save_strategy="steps", save_steps=8)
    trainer.train()
    key = evaluator.primary_metric if given_name is None else f"{given_name}_{evaluator.primary_metric}"
    assert trainer.args.metric_for_best_model == f"eval_{key}"
    assert trainer.state.best_metric == max(value for _, value in logged(trainer, f"eval_{key}"))


def test_two_own_evaluators_of_one_class_are_told_apart_by_their_names(tmp_path: Path) -> None:
    pairs = list(zip(LEFT, RIGHT, strict=True))
    evaluators = [CrossEncoderCorrelationEvaluator(pairs, SCORES, name=name) for name in ("one", "two")]
    trainer = make_trainer(tmp_path, [EvaluatorCallback(evaluators, every=4, primary="two_spearman")], "cross")
    trainer.train()
    assert logged(trainer, "eval_one_spearman") == logged(trainer, "eval_two_spearman")


def test_a_misspelt_metric_is_told_the_key_that_an_own_evaluator_will_have(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [EvaluatorCallback(OWN["cross"](), primary="owm_spearman")], "cross")
    with pytest.raises(ValueError, match="Did you mean 'own_spearman'"):
        trainer.train()
    assert trainer.state.global_step == 0


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "class_name"), [("cross", "Cross"), ("multi_vector", "Multi")])
@pytest.mark.parametrize(
    "evaluator",
    [
        lambda: EmbeddingSimilarityEvaluator(LEFT, RIGHT, SCORES, name="sts"),
        lambda: InformationRetrievalEvaluator(**RETRIEVAL),
        lambda: BinaryClassificationEvaluator(LEFT, RIGHT, [1, 0] * 4),
        lambda: OtherSequentialEvaluator([Fake(), InformationRetrievalEvaluator(**RETRIEVAL)]),
        lambda: SequentialEvaluator([Fake(), InformationRetrievalEvaluator(**RETRIEVAL)]),
    ],
    ids=["similarity", "retrieval", "binary", "in their sequence", "in our sequence"],
)
def test_a_bundled_evaluator_for_another_kind_of_model_is_refused_before_the_first_step(
    tmp_path: Path, kind: str, class_name: str, evaluator: Callable[[], Any]
) -> None:
    trainer = make_trainer(tmp_path, [EvaluatorCallback(evaluator())], kind)
    before = weights_of(trainer.model)
    with pytest.raises(TypeError, match=rf"{class_name}\w*Encoder(: there is no adapter| \(a \w+ model\); it takes)"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert equal_weights(weights_of(trainer.model), before)


# -- a callback that places itself ------------------------------------------------------------------------------------


class Listener(TrainerCallback):
    """Keeps what reporters get."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Keep a copy."""
        self.logs.append(dict(logs))


@pytest.mark.parametrize("given", [True, False], ids=["given", "added_by_the_trainer"])
def test_the_scheduler_of_splade_weights_and_ours_stand_behind_the_flow_and_both_work(
    tmp_path: Path, given: bool
) -> None:
    model = KINDS["sparse"].model()
    loss = splade_loss(model)
    listener, fake = Listener(), Fake(VALUES)
    callback = EvaluatorCallback(fake, every=2)
    scheduler = [SpladeRegularizerWeightSchedulerCallback(loss, warmup_ratio=0.5)] if given else []
    trainer = make_trainer(tmp_path, [callback, *scheduler, listener], "sparse", model=model, loss=loss)
    trainer.train()
    order = [type(one) for one in trainer.callback_handler.callbacks]
    assert order[:3] == [DefaultFlowCallback, EvaluatorCallback, SpladeRegularizerWeightSchedulerCallback]
    assert order.count(EvaluatorCallback) == order.count(SpladeRegularizerWeightSchedulerCallback) == 1
    assert fake.steps == [2, 4, 6, 8]
    weights = [entry["document_regularizer_weight"] for entry in listener.logs if "loss" in entry]
    steps = 4 if given else 2
    assert weights == pytest.approx([3e-2 * min(step / steps, 1) ** 2 for step in range(8)])
    assert [entry["eval_fake_score"] for entry in listener.logs if "eval_fake_score" in entry] == list(VALUES.values())
