"""Only a value that is better by more than `min_delta` takes the place of the best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from support.loop import Fake, at_steps, checkpoints, crash, make_trainer, pairs, read_results
from transformers import EarlyStoppingCallback

from st_eval_callbacks import EvaluatorCallback, History, Scheduled, last_checkpoint

VALUES = at_steps(0.50, 0.55, 0.59, 0.62)
LOSSES = at_steps(0.50, 0.45, 0.41, 0.38)
EVAL = {
    "own interval": ({}, {"every": 2}),
    "the Trainer's": ({"eval_strategy": "steps", "eval_steps": 2, "eval_dataset": pairs(8)}, {}),
}


def train(folder: Path, evaluator: Any, how: str, saves: str, **options: Any) -> Any:
    arguments, callback = EVAL[how]
    first = evaluator[0] if isinstance(evaluator, list) else evaluator
    arguments = {**arguments, "save_strategy": saves, "metric_for_best_model": first.primary_metric}
    arguments |= {"save_steps": 2} if saves == "steps" else {}
    trainer = make_trainer(
        folder, [EvaluatorCallback(evaluator, load_best_model_at_end=True, **callback, **options)], **arguments
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("how", EVAL)
@pytest.mark.parametrize("saves", ["best", "steps"])
def test_a_little_better_is_no_new_best(how: str, saves: str, tmp_path: Path) -> None:
    trainer = train(tmp_path, Fake(VALUES), how, saves, min_delta=0.1)
    # 0.62 is the first that is better than 0.50 by more than 0.1.
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.62, 8)
    assert read_results(tmp_path)["is_best"].tolist() == [1, 0, 0, 1]
    if saves == "best":
        assert checkpoints(tmp_path) == [2, 8]


@pytest.mark.parametrize("how", EVAL)
def test_it_works_where_less_is_better(how: str, tmp_path: Path) -> None:
    evaluator = Fake(LOSSES, metric="loss")
    evaluator.greater_is_better = False
    trainer = train(tmp_path, evaluator, how, "best", min_delta=0.06)
    # 0.41 is lower than 0.50 by more than 0.06; 0.38 is not from there.
    assert trainer.state.best_global_step == 6
    assert read_results(tmp_path)["is_best"].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("how", EVAL)
def test_a_resume_remembers_which_was_kept(how: str, tmp_path: Path) -> None:
    arguments, callback = EVAL[how]
    arguments = {**arguments, "save_strategy": "steps", "save_steps": 2, "metric_for_best_model": "fake_score"}

    def callbacks() -> list[Any]:
        return [EvaluatorCallback(Fake(VALUES), min_delta=0.1, load_best_model_at_end=True, **callback)]

    crash(tmp_path, 5, callbacks(), **arguments)
    trainer = make_trainer(tmp_path, callbacks(), **arguments)
    trainer.train(resume_from_checkpoint=last_checkpoint(tmp_path))
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.62, 8)
    assert read_results(tmp_path)["is_best"].tolist() == [1, 0, 0, 1]


def test_patience_is_that_of_the_best_that_was_kept(tmp_path: Path) -> None:
    trainer = train(tmp_path, Fake(VALUES), "own interval", "best", min_delta=0.1, early_stopping_patience=2)
    assert trainer.state.global_step == 6
    assert trainer.state.best_global_step == 2


def test_transformers_early_stopping_compares_with_the_best_that_was_kept(tmp_path: Path) -> None:
    callbacks = [EvaluatorCallback(Fake(VALUES), every=2, min_delta=0.1), EarlyStoppingCallback(1, 0.07)]
    arguments, _ = EVAL["the Trainer's"]
    trainer = make_trainer(tmp_path, callbacks, metric_for_best_model="fake_score", **arguments)
    trainer.train()
    # 0.55 is not 0.07 better than 0.50.
    assert trainer.state.global_step == 4


@pytest.mark.parametrize("min_delta", [-0.1, math.nan, math.inf])
def test_what_is_no_amount_is_refused(min_delta: float) -> None:
    with pytest.raises(ValueError, match="min_delta"):
        EvaluatorCallback(Fake(), min_delta=min_delta)


def test_the_run_file_says_what_was_evaluated_how(tmp_path: Path) -> None:
    from st_eval_callbacks.report import Run

    train(tmp_path, [Fake(VALUES, "a"), Fake(at_steps(1.0, 2.0, 3.0, math.nan), "b/ü")], "own interval", "best")
    run = Run.read(tmp_path)
    assert run.info.deciding_metric == "a_score"
    assert run.info.greater_is_better
    assert [(one.name, one.kind, one.primary_metric) for one in run.info.evaluators] == [
        ("a", "Fake", "a_score"),
        ("b/ü", "Fake", "b/ü_score"),
    ]
    assert run.evaluator_of("b/ü_score") == run.info.evaluators[1]
    assert run.best is not None
    assert run.best.step == 8
    # The log as the Trainer has it, with what came after its newest checkpoint.
    of_checkpoint = History.read(tmp_path / "checkpoint-6").records
    assert Run.read(tmp_path).history.records[:3] == of_checkpoint
    assert list(run.checkpoints) == [2, 4, 6, 8]
    assert Run.read(tmp_path / "checkpoint-6").info == run.info


def test_an_earlier_run_keeps_its_run_file_beside_its_table(tmp_path: Path) -> None:
    for _ in range(2):
        train(tmp_path, Fake(VALUES), "own interval", "best")
    assert {path.name for path in tmp_path.glob("evaluation_*")} == {
        "evaluation_results.csv",
        "evaluation_results.1.csv",
        "evaluation_run.json",
        "evaluation_run.1.json",
    }


def test_a_best_that_was_kept_below_the_model_before_training_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake = Scheduled(Fake({0: 0.5, 2: 0.45, 4: 0.52, 6: 0.5, 8: 0.5}), every=2, at_start=True)
    make_trainer(tmp_path, [EvaluatorCallback(fake, min_delta=0.1)], save_strategy="steps", save_steps=4).train()
    assert "no checkpoint beats the model before training" in caplog.text
    assert "0.5000 at the start, 0.4500 at best" in caplog.text
