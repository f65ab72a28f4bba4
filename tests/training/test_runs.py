"""One trainer, several runs: trained twice, interrupted, retried with smaller batches, evaluated by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from support.loop import (
    Fake,
    StopAt,
    at_steps,
    checkpoints,
    equal_weights,
    logged,
    make_trainer,
    pairs,
    read_results,
    weights_of,
)
from support.models import tiny_model

from st_eval_callbacks import EvaluationError, EvaluatorCallback, Scheduled

VALUES = at_steps(0.1, 0.9, 0.2, 0.3) | {0: 0.05}
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA out of memory."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    MemoryError("no memory"),
]

# -- evaluated by hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", [{}, {"load_best_model_at_end": True}])
def test_evaluations_by_hand_before_between_and_after_change_nothing_of_a_run(
    tmp_path: Path, ours: dict[str, Any]
) -> None:
    def trainer_of(name: str) -> Any:
        callback = EvaluatorCallback(
            [Scheduled(Fake(VALUES), every=2), Scheduled(Fake(name="late"), at="50%")], **ours
        )
        arguments = {"save_strategy": "steps", "save_steps": 4, "eval_dataset": pairs(8)}
        return make_trainer(tmp_path / name, [callback], model=tiny_model(dropout=0.0), **arguments)

    def by_hand(trainer: Any) -> None:
        before = {name: getattr(trainer.control, name) for name in vars(trainer.control)}
        metrics = trainer.evaluate()
        assert {"eval_fake_score", "eval_late_score", "eval_loss"} <= metrics.keys()
        before["should_evaluate"] = False  # the Trainer clears it
        assert {name: getattr(trainer.control, name) for name in vars(trainer.control)} == before

    alone, evaluated = trainer_of("alone"), trainer_of("evaluated")
    by_hand(evaluated)
    for _ in range(2):
        alone.train()
        evaluated.train()
        state = (evaluated.state.best_metric, evaluated.state.best_global_step)
        assert state == (alone.state.best_metric, alone.state.best_global_step) == (0.9, 4)
        rows = read_results(tmp_path / "evaluated")
        by_hand(evaluated)
        pd.testing.assert_frame_equal(read_results(tmp_path / "evaluated"), rows)
        assert (evaluated.state.best_metric, evaluated.state.best_global_step) == state
    assert logged(evaluated, "loss") == logged(alone, "loss")
    assert equal_weights(weights_of(evaluated.model), weights_of(alone.model))
    assert checkpoints(tmp_path / "evaluated") == checkpoints(tmp_path / "alone") == [2, 4, 8]
    columns = ["steps", "is_best", "fake_score", "late_score"]
    for name in ("evaluation_results.csv", "evaluation_results.1.csv"):
        tables = [pd.read_csv(tmp_path / folder / name)[columns] for folder in ("evaluated", "alone")]
        pd.testing.assert_frame_equal(*tables)


def test_an_evaluation_by_hand_of_nothing_is_refused_by_the_trainer_and_leaves_the_run_as_it_is(
    tmp_path: Path,
) -> None:
    fake = Fake(VALUES)
    trainer = make_trainer(tmp_path, [EvaluatorCallback(fake, every=2)])
    for _ in range(2):
        with pytest.raises(ValueError, match="eval_dataset"):
            trainer.evaluate()
        trainer.train()
    assert fake.steps == [2, 4, 6, 8] * 2
    # With data it is given by hand, our evaluators run too.
    assert trainer.evaluate(pairs(8))["eval_fake_score"] == 0.3


def test_an_evaluation_by_hand_after_an_interrupted_run_measures_everything_and_writes_nothing(tmp_path: Path) -> None:
    fakes = [Fake(name="often"), Fake(name="rare")]
    callback = EvaluatorCallback([Scheduled(fakes[0], every=2), Scheduled(fakes[1], every=4)])
    trainer = make_trainer(tmp_path, [callback, StopAt(3)], eval_dataset=pairs(8), save_strategy="steps", save_steps=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    rows, best = read_results(tmp_path), trainer.state.best_metric
    metrics = trainer.evaluate()
    assert (metrics["eval_often_score"], metrics["eval_rare_score"]) == (0.5, 0.5)
    pd.testing.assert_frame_equal(read_results(tmp_path), rows)
    assert (trainer.state.best_metric, trainer.control.should_save) == (best, False)


# -- trained again ----------------------------------------------------------------------------------------------------


def test_a_run_after_one_that_failed_starts_as_the_arguments_say(tmp_path: Path) -> None:
    fake, calls = Fake(VALUES), []

    def fails_once(model: Any, output_path: Any, epoch: float, steps: int) -> float:
        calls.append(steps)
        if len(calls) == 2:
            raise ValueError("nothing to see")
        return 0.5

    callback = EvaluatorCallback({"": fake, "fails_once": fails_once}, every=2)
    trainer = make_trainer(tmp_path, [callback], eval_on_start=True)
    with pytest.raises(EvaluationError, match="fails_once"):
        trainer.train()
    trainer.train()
    assert fake.steps == [0, 2, 0, 2, 4, 6, 8]
    assert trainer.args.eval_on_start is True
    assert read_results(tmp_path)["steps"].tolist() == [0, 2, 4, 6, 8]


class RunsOut(MultipleNegativesRankingLoss):
    """Runs out of memory once, in the fourth batch."""

    batches = 0

    def forward(self, sentence_features: Any, labels: Any) -> torch.Tensor:
        """Raise in the fourth batch."""
        self.batches += 1
        if self.batches == 4:
            raise RuntimeError("CUDA out of memory.")
        return super().forward(sentence_features, labels)


def test_a_retry_after_training_ran_out_of_memory_is_a_run_of_its_own(tmp_path: Path) -> None:
    fake = Fake({0: 0.05, **at_steps(0.1, 0.2, 0.3, 0.4)})
    trainer = make_trainer(
        tmp_path,
        [EvaluatorCallback(fake, every=2, load_best_model_at_end=True)],
        loss=RunsOut,
        auto_find_batch_size=True,
        eval_on_start=True,
        save_strategy="steps",
        save_steps=8,
    )
    trainer.train()
    assert trainer._train_batch_size == 7
    assert fake.steps == [0, 2, 0, 2, 4, 6, 8]
    assert read_results(tmp_path)["steps"].tolist() == [0, 2, 4, 6, 8]
    assert pd.read_csv(tmp_path / "evaluation_results.1.csv")["steps"].tolist() == [0, 2]
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.4, 8)
    assert trainer.args.eval_on_start is True


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:12])
@pytest.mark.parametrize("where", [{}, {"eval_on_start": True}, {"eval_strategy": "steps", "eval_steps": 2}])
@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_an_evaluator_without_memory_never_changes_the_batch_size(
    tmp_path: Path, on_error: str, where: dict[str, Any], error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def hungry(model: Any, output_path: Any, epoch: float, steps: int) -> float:
        raise error

    callback = EvaluatorCallback({"hungry": hungry, "fake": Fake()}, primary="fake_score", on_error=on_error)
    eval_dataset = pairs(8) if where else None
    arguments = {"auto_find_batch_size": True, "max_steps": 4, "eval_dataset": eval_dataset, **where}
    trainer = make_trainer(tmp_path, [callback], **arguments)
    if on_error == "raise":
        with pytest.raises(EvaluationError, match="hungry") as caught:
            trainer.train()
        assert caught.value.__cause__ is error
    else:
        trainer.train()
        assert trainer.state.global_step == 4
        assert "'hungry'" in caplog.text
    assert trainer._train_batch_size == 8


# -- when the arguments say so ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"eval_strategy": "steps", "eval_steps": 0.25}, [2, 4, 6, 8]),
        ({"eval_strategy": "steps", "eval_steps": 0.3}, [3, 6, 8]),
        ({"eval_strategy": "steps", "eval_steps": 1, "eval_delay": 6}, [6, 7, 8]),
        ({"eval_strategy": "epoch", "eval_delay": 2}, [8]),
        ({"eval_strategy": "epoch", "eval_delay": 1.5, "num_train_epochs": 3}, [8, 12]),
        ({"eval_strategy": "epoch", "max_steps": 6}, [4, 6]),
        ({"eval_strategy": "steps", "eval_steps": 2, "max_steps": 5}, [2, 4, 5]),
        ({"eval_strategy": "steps", "eval_steps": 1, "gradient_accumulation_steps": 4}, [1, 2]),
        ({"eval_strategy": "steps", "eval_steps": 0.5, "gradient_accumulation_steps": 2}, [2, 4]),
        ({"eval_strategy": "epoch", "gradient_accumulation_steps": 3}, [2, 4]),
    ],
)
@pytest.mark.parametrize("save", ["no", "epoch"])
def test_evaluators_run_exactly_where_the_trainer_evaluates(
    tmp_path: Path, arguments: dict[str, Any], steps: list[int], save: str
) -> None:
    stock = make_trainer(tmp_path / "stock", None, eval_dataset=pairs(8), **arguments)
    stock.train()
    fake = Fake({step: step / 100 for step in range(13)})
    ours = make_trainer(
        tmp_path / "ours", [EvaluatorCallback(fake)], eval_dataset=pairs(8), save_strategy=save, **arguments
    )
    ours.train()
    assert [step for step, _ in logged(ours, "eval_loss")] == [step for step, _ in logged(stock, "eval_loss")]
    assert fake.steps == sorted({step for step, _ in logged(stock, "eval_loss")})
    assert fake.steps == steps
    assert logged(ours, "loss") == logged(stock, "loss")


@pytest.mark.parametrize(
    ("every", "arguments", "steps"),
    [
        ("0.5 epochs", {"gradient_accumulation_steps": 2}, [1, 2, 3, 4]),
        ("50%", {"gradient_accumulation_steps": 2, "max_steps": 7}, [4, 7]),
        (0.25, {"max_steps": 6}, [2, 3, 5, 6]),
        ("1 epochs", {"train_dataset": pairs(24).to_iterable_dataset(), "max_steps": 7}, [3, 6, 7]),
        ("2 epochs", {"train_dataset": pairs(24).to_iterable_dataset(), "max_steps": 12}, [6, 12]),
        (None, {"train_dataset": pairs(24).to_iterable_dataset(), "max_steps": 7}, [3, 6, 7]),
        (
            "1 epochs",
            {"train_dataset": pairs(32).to_iterable_dataset(), "max_steps": 5, "gradient_accumulation_steps": 2},
            [2, 4, 5],
        ),
    ],
)
def test_own_intervals_hold_with_accumulation_shares_and_data_without_length(
    tmp_path: Path, every: Any, arguments: dict[str, Any], steps: list[int]
) -> None:
    fake = Fake()
    make_trainer(tmp_path, [EvaluatorCallback(fake, every=every)], **arguments).train()
    assert fake.steps == steps
