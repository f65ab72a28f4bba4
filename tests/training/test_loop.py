"""One process trains: what is evaluated when, what is logged, which checkpoint is kept and loaded."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.loop import (
    WORDS,
    Fake,
    StopAt,
    at_steps,
    checkpoints,
    equal_weights,
    logged,
    make_trainer,
    pairs,
    read_results,
    strict_state,
    weights_of,
    without_times,
)
from support.models import StubModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback

from st_eval_callbacks import EvaluationError, EvaluatorCallback, Scheduled
from st_eval_callbacks.report import Run

NAN = float("nan")


# -- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        ("3 steps", [3, 6, 8]),
        (4, [4, 8]),
        ("0.5 epochs", [2, 4, 6, 8]),
        ("1 epochs", [4, 8]),
        ("25%", [2, 4, 6, 8]),
        (None, [4, 8]),
    ],
)
def test_an_evaluator_runs_at_its_boundaries_and_once_at_the_end(tmp_path: Path, every: Any, steps: list[int]) -> None:
    fake = Fake()
    make_trainer(tmp_path, [EvaluatorCallback(fake, every=every)]).train()
    assert fake.steps == steps


def test_an_evaluator_without_interval_runs_at_the_end_of_less_than_an_epoch(tmp_path: Path) -> None:
    fake = Fake()
    make_trainer(tmp_path, [EvaluatorCallback(fake)], max_steps=2).train()
    assert fake.steps == [2]


def test_points_the_start_and_no_end_are_obeyed(tmp_path: Path) -> None:
    fake = Fake()
    make_trainer(tmp_path, [EvaluatorCallback(Scheduled(fake, at=[3, "75%"], at_start=True, at_end=False))]).train()
    assert fake.steps == [0, 3, 6]


@pytest.mark.parametrize("strategy", [{"eval_strategy": "steps", "eval_steps": 3}, {"eval_strategy": "epoch"}])
def test_an_evaluator_without_interval_follows_the_trainers_evaluations(tmp_path: Path, strategy: Any) -> None:
    fake = Fake()
    trainer = make_trainer(tmp_path, [EvaluatorCallback(fake)], eval_dataset=pairs(), **strategy)
    trainer.train()
    evaluated = [step for step, _ in logged(trainer, "eval_loss")]
    assert fake.steps == evaluated
    assert [step for step, _ in logged(trainer, "eval_fake_score")] == evaluated


def test_the_delay_and_the_start_of_the_arguments_are_obeyed(tmp_path: Path) -> None:
    fake = Fake()
    arguments = {"eval_strategy": "steps", "eval_steps": 2, "eval_delay": 5, "eval_on_start": True}
    make_trainer(tmp_path, [EvaluatorCallback(fake)], eval_dataset=pairs(), **arguments).train()
    assert fake.steps == [0, 6, 8]


def test_evaluation_on_start_works_without_anything_of_the_trainers_own(tmp_path: Path) -> None:
    fake = Fake()
    make_trainer(tmp_path, [EvaluatorCallback(fake)], eval_on_start=True).train()
    assert fake.steps == [0, 4, 8]


def test_each_step_is_evaluated_once_whoever_asks(tmp_path: Path) -> None:
    fake = Fake()
    callback = EvaluatorCallback(Scheduled(fake, every="2 steps", at=["50%", "1 epochs"]))
    trainer = make_trainer(tmp_path, [callback], eval_dataset=pairs(), eval_strategy="epoch", save_strategy="epoch")
    trainer.train()
    assert fake.steps == [2, 4, 6, 8]


def test_the_primary_also_runs_where_the_trainer_evaluates(tmp_path: Path) -> None:
    often, primary = Fake(name="often"), Fake(name="rare")
    callback = EvaluatorCallback(
        [Scheduled(often, every="2 steps"), Scheduled(primary, every="6 steps")], primary="rare_score"
    )
    arguments = {"eval_strategy": "steps", "eval_steps": 4, "num_train_epochs": 3}
    make_trainer(tmp_path, [callback], eval_dataset=pairs(), **arguments).train()
    assert often.steps == [2, 4, 6, 8, 10, 12]
    assert primary.steps == [4, 6, 8, 12]


@pytest.mark.parametrize("way", ["callbacks", "add_callback", "attach"])
def test_the_callback_works_however_it_is_handed_over(tmp_path: Path, way: str) -> None:
    fake = Fake()
    callback = EvaluatorCallback(fake)
    trainer = make_trainer(tmp_path, [callback] if way == "callbacks" else None)
    if way == "add_callback":
        trainer.add_callback(callback)
    elif way == "attach":
        assert callback.attach(trainer) is callback
    trainer.train()
    assert fake.steps == [4, 8]
    assert trainer.callback_handler.callbacks.count(callback) == 1


def test_gradient_accumulation_and_partial_epochs_keep_epoch_boundaries(tmp_path: Path) -> None:
    fake = Fake()
    trainer = make_trainer(
        tmp_path,
        [EvaluatorCallback(fake, every="1 epochs")],
        train_dataset=pairs(40),
        gradient_accumulation_steps=2,
        max_steps=7,
    )
    trainer.train()
    assert fake.steps == [3, 6, 7]


def test_data_without_length_fires_at_the_end_of_its_epochs(tmp_path: Path) -> None:
    fake = Fake()
    dataset = pairs(40).to_iterable_dataset()
    trainer = make_trainer(tmp_path, [EvaluatorCallback(fake, every="1 epochs")], train_dataset=dataset, max_steps=12)
    trainer.train()
    assert fake.steps == [5, 10, 12]


# -- what is logged ---------------------------------------------------------------------------------------------------


def test_metrics_are_logged_once_and_the_loss_of_the_step_stays(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [EvaluatorCallback(Fake(at_steps(0.1, 0.2, 0.3, 0.4)), every=2)])
    trainer.train()
    assert logged(trainer, "eval_fake_score") == [(2, 0.1), (4, 0.2), (6, 0.3), (8, 0.4)]
    assert [step for step, _ in logged(trainer, "loss")] == list(range(1, 9))
    assert all(value >= 0 for _, value in logged(trainer, "eval_fake_runtime"))


def test_tensorboard_shows_each_metric_at_its_step(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, [EvaluatorCallback(Fake(at_steps(0.1, 0.2, 0.3, 0.4)), every=2)], report_to="tensorboard"
    )
    trainer.train()
    [event_file] = tmp_path.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(event_file))
    events.Reload()
    assert [(event.step, round(event.value, 4)) for event in events.Scalars("eval/fake_score")] == [
        (2, 0.1),
        (4, 0.2),
        (6, 0.3),
        (8, 0.4),
    ]
    assert len(events.Scalars("train/loss")) == 8


def test_the_dict_of_a_trainer_evaluation_holds_our_metrics(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []

    class Listener(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
            seen.append(dict(metrics))

    arguments = {"eval_strategy": "steps", "eval_steps": 4}
    make_trainer(tmp_path, [Listener(), EvaluatorCallback(Fake())], eval_dataset=pairs(), **arguments).train()
    assert [metrics["eval_fake_score"] for metrics in seen] == [0.5, 0.5]


def test_an_evaluation_by_hand_returns_our_metrics_and_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [EvaluatorCallback(Fake())], eval_dataset=pairs())
    assert trainer.evaluate()["eval_fake_score"] == 0.5
    trainer.train()
    rows = read_results(tmp_path)
    assert trainer.evaluate()["eval_fake_score"] == 0.5
    assert trainer.control.should_save is False
    pd.testing.assert_frame_equal(read_results(tmp_path), rows)


def test_the_results_are_a_row_a_step_with_the_best_marked(tmp_path: Path) -> None:
    often, rare = Fake(at_steps(0.2, 0.5, 0.4, 0.6), name="often"), Fake(0.7, name="rare")
    callback = EvaluatorCallback([Scheduled(often, every=2), Scheduled(rare, every=4)])
    make_trainer(tmp_path, [callback]).train()
    rows = read_results(tmp_path)
    assert list(rows.columns) == ["epoch", "steps", "seconds", "is_best", "often_score", "rare_score"]
    assert rows["steps"].tolist() == [2, 4, 6, 8]
    assert rows["epoch"].tolist() == [0.5, 1.0, 1.5, 2.0]
    assert rows["is_best"].tolist() == [1, 1, 0, 1]
    assert rows["rare_score"].isna().tolist() == [True, False, True, False]


def test_a_second_fresh_run_keeps_the_first_ones_results(tmp_path: Path) -> None:
    for value in (0.1, 0.2, 0.3):
        make_trainer(tmp_path, [EvaluatorCallback(Fake(value))]).train()
    kept = [
        pd.read_csv(tmp_path / f"evaluation_results{mark}.csv")["fake_score"].tolist() for mark in (".1", ".2", "")
    ]
    assert kept == [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]


def test_a_plain_function_and_a_dict_of_evaluators_are_evaluators(tmp_path: Path) -> None:
    def length(model: Any, output_path: Any, epoch: float, steps: int) -> float:
        return float(steps)

    def several(model: Any, output_path: Any, epoch: float, steps: int) -> dict[str, float]:
        return {"a": 1.0, "b": 2.0}

    trainer = make_trainer(tmp_path, [EvaluatorCallback({"length": length, "two": several})])
    trainer.train()
    assert logged(trainer, "eval_length") == [(4, 4.0), (8, 8.0)]
    assert logged(trainer, "eval_two_b") == [(4, 2.0), (8, 2.0)]


# -- the best ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "save",
    [
        {"save_strategy": "best"},
        {"save_strategy": "steps", "save_steps": 4},
        {"save_strategy": "epoch"},
        {"save_strategy": "steps", "save_steps": 3},
    ],
)
@pytest.mark.parametrize("metric", [None, "fake_score", "eval_fake_score"])
def test_the_best_is_saved_and_loaded_bit_for_bit_whenever_it_comes(tmp_path: Path, save: Any, metric: Any) -> None:
    fake = Fake(at_steps(0.5, 0.4, 0.9, 0.1))
    callback = EvaluatorCallback(fake, every=2, load_best_model_at_end=True)
    if metric is None and save["save_strategy"] == "best":
        metric = "fake_score"  # the trainer's constructor asks for one
    trainer = make_trainer(tmp_path, [callback], metric_for_best_model=metric, save_total_limit=2, **save)
    trainer.train()
    assert trainer.state.best_global_step == 6
    assert trainer.state.best_metric == 0.9
    assert 6 in checkpoints(tmp_path)
    assert equal_weights(weights_of(trainer.model), fake.weights[6])


def test_a_best_between_two_saves_of_the_trainer_is_not_lost(tmp_path: Path) -> None:
    fake = Fake(at_steps(0.5, 0.4, 0.9, 0.1))
    trainer = make_trainer(
        tmp_path,
        [EvaluatorCallback(fake)],
        eval_dataset=pairs(),
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=4,
        load_best_model_at_end=True,
        metric_for_best_model="fake_score",
    )
    trainer.train()
    assert checkpoints(tmp_path) == [2, 4, 6, 8]
    assert equal_weights(weights_of(trainer.model), fake.weights[6])


def test_an_interval_that_fits_no_save_interval_works(tmp_path: Path) -> None:
    fake = Fake(at_steps(0.1, 0.9, every=3) | {8: 0.2})
    callback = EvaluatorCallback(fake, every=3, load_best_model_at_end=True)
    trainer = make_trainer(tmp_path, [callback], save_strategy="steps", save_steps=2)
    trainer.train()
    assert equal_weights(weights_of(trainer.model), fake.weights[6])


def test_without_a_metric_name_the_callbacks_primary_decides(tmp_path: Path) -> None:
    fake = Fake(at_steps(0.5, 0.4, 0.9, 0.1))
    trainer = make_trainer(
        tmp_path, [EvaluatorCallback(fake, every=2)], save_strategy="best", load_best_model_at_end=True
    )
    trainer.train()
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.9, 6)


@pytest.mark.parametrize(("values", "best"), [((NAN, NAN, NAN, NAN), (None, None)), ((NAN, 0.4, 0.3, 0.2), (0.4, 4))])
@pytest.mark.parametrize("trainer_evaluates", [False, True])
def test_nan_never_wins_and_the_state_stays_strict_json(
    tmp_path: Path, values: tuple[float, ...], best: tuple[Any, Any], trainer_evaluates: bool
) -> None:
    arguments: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2} if trainer_evaluates else {}
    callback = EvaluatorCallback(Fake(at_steps(*values)), every=None if trainer_evaluates else 2)
    trainer = make_trainer(
        tmp_path,
        [callback],
        eval_dataset=pairs(),
        save_strategy="steps",
        save_steps=2,
        metric_for_best_model="fake_score",
        **arguments,
    )
    trainer.train()
    assert (trainer.state.best_metric, trainer.state.best_global_step) == best
    state = strict_state(tmp_path, 8)
    assert state["best_metric"] == best[0]
    assert read_results(tmp_path)["fake_score"].isna().tolist() == [value != value for value in values]


def test_a_lower_value_is_better_where_the_evaluator_says_so(tmp_path: Path) -> None:
    fake = Fake(at_steps(0.1, 0.9, 0.5, 0.3), metric="rmse")
    fake.greater_is_better = False
    callback = EvaluatorCallback(fake, every=2, load_best_model_at_end=True)
    trainer = make_trainer(
        tmp_path, [callback], save_strategy="steps", save_steps=8, metric_for_best_model="fake_rmse"
    )
    trainer.train()
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.1, 2)


def test_a_baseline_that_no_checkpoint_beats_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake({0: 0.9, **at_steps(0.1, 0.2, 0.3, 0.4)})
    callback = EvaluatorCallback(Scheduled(fake, every=2, at_start=True), load_best_model_at_end=True)
    trainer = make_trainer(tmp_path, [callback], save_strategy="steps", save_steps=8)
    trainer.train()
    assert read_results(tmp_path)["steps"].tolist() == [0, 2, 4, 6, 8]
    assert trainer.state.best_metric == 0.4
    assert "no checkpoint beats the model before training" in caplog.text


def test_a_total_limit_of_one_keeps_the_best_and_says_what_is_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake = Fake(at_steps(0.9, 0.1, 0.2, 0.3))
    callback = EvaluatorCallback(fake, every=2, load_best_model_at_end=True)
    trainer = make_trainer(tmp_path, [callback], save_strategy="steps", save_steps=2, save_total_limit=1)
    trainer.train()
    assert checkpoints(tmp_path) == [2]
    assert "save_total_limit=1 keeps only the best" in caplog.text


def test_our_own_patience_stops_without_a_trainer_evaluation(tmp_path: Path) -> None:
    fake = Fake(at_steps(0.2, 0.8, 0.5, 0.1, 0.1, 0.1))
    trainer = make_trainer(tmp_path, [EvaluatorCallback(fake, every=2, early_stopping_patience=2)], num_train_epochs=3)
    trainer.train()
    assert trainer.state.global_step == 8


def test_extra_checkpoints_to_resume_from_come_beside_the_best(tmp_path: Path) -> None:
    fake = Fake(at_steps(0.9, 0.1, 0.2, 0.3))
    callback = EvaluatorCallback(fake, every=2, checkpoint_every="3 steps")
    make_trainer(tmp_path, [callback], save_strategy="best", metric_for_best_model="fake_score").train()
    assert checkpoints(tmp_path) == [2, 3, 6]


def test_extra_checkpoints_also_come_where_the_trainer_evaluates_without_a_new_best(tmp_path: Path) -> None:
    fake = Fake(at_steps(0.9, 0.1, 0.2, 0.3))
    callback = EvaluatorCallback(fake, checkpoint_every="4 steps")
    arguments = {"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 2, "eval_dataset": pairs()}
    trainer = make_trainer(tmp_path, [callback], metric_for_best_model="fake_score", **arguments)
    trainer.train()
    assert checkpoints(tmp_path) == [2, 4, 8]
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.9, 2)


@pytest.mark.parametrize("load", [False, True])
def test_what_a_total_limit_of_one_deletes_is_said_also_when_nothing_is_loaded(
    tmp_path: Path, load: bool, caplog: pytest.LogCaptureFixture
) -> None:
    callback = EvaluatorCallback(Fake(at_steps(0.9, 0.1, 0.2, 0.3)), every=2, load_best_model_at_end=load)
    make_trainer(tmp_path, [callback], save_strategy="steps", save_steps=2, save_total_limit=1).train()
    assert checkpoints(tmp_path) == [2]
    assert "save_total_limit=1 keeps only the best" in caplog.text


# -- resume -----------------------------------------------------------------------------------------------------------


def interrupted(folder: Path, stop: int, fake: Fake, **arguments: Any) -> None:
    callback = EvaluatorCallback(fake, every=2)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(folder, [callback, StopAt(stop)], **arguments).train()


@pytest.mark.parametrize("stop", [5, 6, 7])
def test_a_resumed_run_has_the_log_the_results_and_the_best_of_an_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    values = at_steps(0.2, 0.6, 0.5, 0.9)
    arguments = {"save_strategy": "steps", "save_steps": 4, "load_best_model_at_end": False}
    whole = make_trainer(tmp_path / "whole", [EvaluatorCallback(Fake(values), every=2)], **arguments)
    whole.train()
    interrupted(tmp_path / "cut", stop, Fake(values), **arguments)
    resumed = make_trainer(tmp_path / "cut", [EvaluatorCallback(Fake(values), every=2)], **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert without_times(resumed.state.log_history) == without_times(whole.state.log_history)
    columns = ["epoch", "steps", "is_best", "fake_score"]
    pd.testing.assert_frame_equal(read_results(tmp_path / "cut")[columns], read_results(tmp_path / "whole")[columns])
    assert read_results(tmp_path / "cut")["steps"].tolist() == [2, 4, 6, 8]
    assert (resumed.state.best_metric, resumed.state.best_global_step) == (0.9, 8)
    assert equal_weights(weights_of(resumed.model), weights_of(whole.model))


def test_columns_keep_the_evaluators_order_after_a_resume(tmp_path: Path) -> None:
    def several(model: Any, output_path: Any, epoch: float, steps: int) -> dict[str, float]:
        return {"z": steps / 2, "a": steps / 3, "m": steps / 4}

    def callback() -> EvaluatorCallback:
        early, late = Scheduled(several, every=2), Scheduled(several, every=4)
        return EvaluatorCallback({"late": late, "early": early}, primary="early_m")

    arguments = {"save_strategy": "steps", "save_steps": 2}
    make_trainer(tmp_path / "whole", [callback()], **arguments).train()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "cut", [callback(), StopAt(5)], **arguments).train()
    make_trainer(tmp_path / "cut", [callback()], **arguments).train(resume_from_checkpoint=True)
    whole, cut = (read_results(tmp_path / name).drop(columns="seconds") for name in ("whole", "cut"))
    pd.testing.assert_frame_equal(cut, whole)
    assert list(cut.columns[3:]) == ["late_z", "late_a", "late_m", "early_z", "early_a", "early_m"]


def test_the_best_is_found_after_the_folder_was_moved(tmp_path: Path) -> None:
    values = at_steps(0.9, 0.1, 0.2, 0.3)
    arguments = {"save_strategy": "steps", "save_steps": 4}
    interrupted(tmp_path / "old", 5, Fake(values), **arguments)
    shutil.move(tmp_path / "old", tmp_path / "new")
    fake = Fake(values)
    callback = EvaluatorCallback(fake, every=2, load_best_model_at_end=True)
    trainer = make_trainer(tmp_path / "new", [callback], **arguments)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.best_model_checkpoint == str(tmp_path / "new" / "checkpoint-2")
    assert fake.steps == [6, 8]


def test_a_checkpoint_made_without_the_callback_trains_on_with_it(tmp_path: Path) -> None:
    arguments = {"save_strategy": "steps", "save_steps": 4}
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, [StopAt(5)], **arguments).train()
    trainer = make_trainer(tmp_path, [EvaluatorCallback(Fake(), every=2)], **arguments)
    trainer.train(resume_from_checkpoint=True)
    assert read_results(tmp_path)["steps"].tolist() == [6, 8]


@pytest.mark.parametrize("eval_steps", [4, 0.5])
def test_a_changed_interval_of_the_arguments_is_obeyed_after_a_resume(tmp_path: Path, eval_steps: float) -> None:
    arguments: dict[str, Any] = {"eval_strategy": "steps", "eval_dataset": pairs(), "save_strategy": "steps"}
    first = [EvaluatorCallback(Fake()), StopAt(3)]
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, first, eval_steps=1, save_steps=1, **arguments).train()
    fake = Fake()
    trainer = make_trainer(tmp_path, [EvaluatorCallback(fake)], eval_steps=eval_steps, save_steps=4, **arguments)
    trainer.train(resume_from_checkpoint=True)
    assert fake.steps == [4, 8]


def test_patience_goes_on_counting_after_a_resume(tmp_path: Path) -> None:
    values = at_steps(0.8, 0.5, 0.4, 0.3, 0.2)
    arguments = {"save_strategy": "steps", "save_steps": 4, "num_train_epochs": 3}
    interrupted(tmp_path, 5, Fake(values), **arguments)
    trainer = make_trainer(
        tmp_path, [EvaluatorCallback(Fake(values), every=2, early_stopping_patience=2)], **arguments
    )
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 6


@pytest.mark.parametrize("trainer_evaluates", [False, True])
def test_two_callbacks_share_one_table_and_resume_together(
    tmp_path: Path, trainer_evaluates: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "metric_for_best_model": "a_score"}
    if trainer_evaluates:
        arguments |= {"eval_strategy": "steps", "eval_steps": 2, "eval_dataset": pairs()}

    def callbacks() -> list[Any]:
        first, second = Fake(at_steps(0.2, 0.9, 0.5, 0.6), name="a"), Fake(0.7, name="b")
        return [EvaluatorCallback(first, every=2), EvaluatorCallback(second, every=4)]

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, [*callbacks(), StopAt(5)], **arguments).train()
    trainer = make_trainer(tmp_path, callbacks(), **arguments)
    trainer.train(resume_from_checkpoint=True)
    rows = read_results(tmp_path)
    assert rows["a_score"].tolist() == [0.2, 0.9, 0.5, 0.6]
    assert rows["b_score"].isna().tolist() == [True, False, True, False]
    assert rows["is_best"].tolist() == [1, 1, 0, 0]
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.9, 4)
    info = Run.read(tmp_path).info
    assert {one.name: one.primary_metric for one in info.evaluators} == {"a": "a_score", "b": "b_score"}
    # Each shows a table of its own.
    assert re.findall(r"^│ (\w+)", capsys.readouterr().out, re.M) == ["a_score", "b_score"]


def test_training_twice_starts_anew(tmp_path: Path) -> None:
    fake = Fake()
    trainer = make_trainer(tmp_path, [EvaluatorCallback(fake)], eval_on_start=True)
    trainer.train()
    trainer.train()
    assert fake.steps == [0, 4, 8] * 2
    assert (tmp_path / "evaluation_results.1.csv").exists()


def test_two_sizes_over_one_corpus_are_encoded_once(tmp_path: Path) -> None:
    from st_eval_callbacks.evaluators import InformationRetrievalEvaluator, SequentialEvaluator

    texts = {f"d{i}": f"{WORDS[i]} {WORDS[i - 1]}" for i in range(len(WORDS))}
    data = {"queries": {"q": "cat"}, "corpus": texts, "relevant_docs": {"q": {"d0"}}}
    sizes = [InformationRetrievalEvaluator(**data, truncate_dim=dim, name=str(dim)) for dim in (16, 4)]
    stub = StubModel({text: [float(i + j) for j in range(16)] for i, text in enumerate(["cat", *texts.values()])})
    result = SequentialEvaluator(sizes)(stub)
    assert len(stub.calls) == 2
    alone = [one(StubModel(stub.vectors))[f"{one.name}_cosine_ndcg@10"] for one in sizes]
    assert alone == [result["16_cosine_ndcg@10"], result["4_cosine_ndcg@10"]]


# -- the model card ---------------------------------------------------------------------------------------------------


def test_the_card_tells_the_metrics_of_the_loaded_best_and_marks_its_row(tmp_path: Path) -> None:
    fake = Fake(at_steps(0.9, 0.1, 0.2, 0.3))
    callback = EvaluatorCallback(fake, every=2, load_best_model_at_end=True)
    trainer = make_trainer(tmp_path, [callback], save_strategy="steps", save_steps=4)
    trainer.train()
    card = trainer.model.model_card_data
    assert card.eval_results_dict == {fake: {"fake_score": 0.9}}
    assert card.best_model_step == 2
    rows = {row["Step"]: row.get("fake_score") for row in card.training_logs}
    assert rows == {1: None, 2: 0.9, 3: None, 4: 0.1, 5: None, 6: 0.2, 7: None, 8: 0.3}
    trainer.save_model(str(tmp_path / "final"))
    text = (tmp_path / "final" / "README.md").read_text()
    assert re.search(r"\| \*\*score\*\* +\| \*\*0\.9\*\* +\|", text)
    assert re.search(r"\| \*\*0\.5\*\* +\| \*\*2\*\* +\|.*\| \*\*0\.9\*\* +\|", text)


def test_the_card_has_all_rows_after_a_resume(tmp_path: Path) -> None:
    values = at_steps(0.9, 0.1, 0.2, 0.3)
    arguments = {"save_strategy": "steps", "save_steps": 4}
    interrupted(tmp_path, 5, Fake(values), **arguments)
    fake = Fake(values)
    trainer = make_trainer(tmp_path, [EvaluatorCallback(fake, every=2, load_best_model_at_end=True)], **arguments)
    trainer.train(resume_from_checkpoint=True)
    card = trainer.model.model_card_data
    assert {row["Step"]: row["fake_score"] for row in card.training_logs if "fake_score" in row} == values
    assert card.eval_results_dict == {fake: {"fake_score": 0.9}}


def test_each_checkpoints_card_tells_of_that_checkpoint(tmp_path: Path) -> None:
    fake = Fake(at_steps(0.11, 0.22, 0.33, 0.44))
    callback = EvaluatorCallback(fake, every=2)
    make_trainer(tmp_path, [callback], save_strategy="steps", save_steps=1).train()
    for step in (1, 2, 3, 4):
        text = (tmp_path / f"checkpoint-{step}" / "README.md").read_text()
        assert ("model-index" in text) == (step % 2 == 0)
        if step % 2 == 0:
            assert f"value: {fake.values[step]}" in text


# -- errors before the first step -------------------------------------------------------------------------------------


def retrieval() -> Any:
    from st_eval_callbacks.evaluators import InformationRetrievalEvaluator

    return InformationRetrievalEvaluator({"q": "cat"}, {"d": "a cat", "e": "dog"}, {"q": {"d"}})


@pytest.mark.parametrize(
    ("callback", "arguments", "said"),
    [
        (lambda: EvaluatorCallback(Fake()), {"metric_for_best_model": "score"}, "fake_score"),
        (lambda: EvaluatorCallback(Fake(), primary="fakes_score"), {}, "Did you mean 'fake_score'"),
        (lambda: EvaluatorCallback([Fake(), Fake()]), {}, "both measure 'fake_score'"),
        (lambda: EvaluatorCallback([retrieval(), retrieval()]), {}, "both measure 'cosine_accuracy@1'"),
        (lambda: EvaluatorCallback(retrieval(), primary="ndcg@10"), {}, "Did you mean 'cosine_ndcg@10'"),
        (lambda: EvaluatorCallback(Fake(), every=9), {}, "never fires"),
        (lambda: EvaluatorCallback(Scheduled(Fake(), at_end=False)), {"max_steps": 2}, "never fires"),
        (lambda: EvaluatorCallback(Fake(), every="3 epochs"), {}, "never fires"),
        (lambda: EvaluatorCallback(Fake(), load_best_model_at_end=True), {}, "save_strategy='no'"),
        (
            lambda: EvaluatorCallback(Fake(), primary="fake_score"),
            {"metric_for_best_model": "other"},
            "name different",
        ),
        (
            lambda: EvaluatorCallback(Fake()),
            {"metric_for_best_model": "fake_score", "greater_is_better": False},
            "greater_is_better",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(
    tmp_path: Path, callback: Any, arguments: dict[str, Any], said: str
) -> None:
    trainer = make_trainer(tmp_path, [callback()], **arguments)
    with pytest.raises(ValueError, match=said):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.parametrize("given", [[], {}, "sts", 3, [Fake(), "sts"]])
def test_what_is_no_evaluator_is_refused_at_once(given: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="evaluator"):
        EvaluatorCallback(given)


def test_a_failed_evaluator_names_itself_and_its_step_and_keeps_the_cause(tmp_path: Path) -> None:
    def broken(model: Any, output_path: Any, epoch: float, steps: int) -> float:
        raise RuntimeError("CUDA out of memory.")

    trainer = make_trainer(tmp_path, [EvaluatorCallback({"broken": broken})], auto_find_batch_size=True)
    with pytest.raises(EvaluationError, match=r"'broken' .* failed at step 4") as caught:
        trainer.train()
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_failed_evaluator_can_be_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(model: Any, output_path: Any, epoch: float, steps: int) -> float:
        raise ValueError("nothing to see")

    fake = Fake()
    trainer = make_trainer(
        tmp_path, [EvaluatorCallback({"broken": broken, "fake": fake}, primary="fake_score", on_error="warn")]
    )
    trainer.train()
    assert fake.steps == [4, 8]
    assert "'broken'" in caplog.text


def test_functions_that_return_a_number_are_logged_under_their_names(tmp_path: Path) -> None:
    def spread(model: Any, output_path: Any, epoch: float, steps: int) -> float:
        return 0.25

    def depth(model: Any, output_path: Any, epoch: float, steps: int) -> float:
        return 0.75

    trainer = make_trainer(tmp_path, [EvaluatorCallback([spread, depth], every=8)])
    trainer.train()
    assert logged(trainer, "eval_spread") == [(8, 0.25)]
    assert logged(trainer, "eval_depth") == [(8, 0.75)]
    assert trainer.args.metric_for_best_model == "eval_spread"


@pytest.mark.parametrize("order", [("a", "a_b"), ("a_b", "a")])
def test_a_metric_belongs_to_the_longest_name_that_begins_it(order: tuple[str, str], tmp_path: Path) -> None:
    def measured(model: Any, output_path: Any = None, epoch: float = -1, steps: int = -1) -> dict[str, float]:
        return {"x": 0.5, "y": steps / 10}

    trainer = make_trainer(tmp_path, [EvaluatorCallback(dict.fromkeys(order, measured), every=4, primary="a_b_y")])
    trainer.train()
    assert trainer.state.best_metric == 0.8


def test_evaluators_of_one_name_in_two_callbacks_are_refused(tmp_path: Path) -> None:
    def callbacks(*evaluators: Any) -> list[Any]:
        return [EvaluatorCallback(one, every=4) for one in evaluators]

    other = Fake(0.5, "a", "other")
    with pytest.raises(ValueError, match="two callbacks of this trainer have an evaluator called 'a'"):
        make_trainer(tmp_path, callbacks(Fake(0.5, "a"), other)).train()
    trainer = make_trainer(tmp_path, callbacks(Fake(0.5, "a"), {"b": other}))
    trainer.train()
    assert logged(trainer, "eval_b_a_other") == [(4, 0.5), (8, 0.5)]
