"""A hyperparameter search compares its trials by what the callback measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from support.loop import Fake, at_steps, checkpoints, equal_weights, make_trainer, pairs, read_results, weights_of
from support.models import tiny_model

from st_eval_callbacks import EvaluatorCallback

PEAK, RISE = at_steps(0.1, 0.9, 0.2, 0.3), at_steps(0.4, 0.5, 0.6, 0.7)


class InTrials(Fake):
    """Returns the values listed for each trial."""

    def __init__(self, *trials: Mapping[int, float], name: str = "fake") -> None:
        super().__init__(name=name)
        self.trials = list(trials)

    def __call__(self, model: Any, output_path: Any = None, epoch: float = -1, steps: int = -1) -> dict[str, float]:
        """Return the value of this step in this trial."""
        if not self.steps or steps <= self.steps[-1]:
            self.values = self.trials.pop(0)
            self.weights = {}
        return super().__call__(model, output_path, epoch, steps)


def search(
    folder: Path,
    callback: EvaluatorCallback,
    *,
    compute_objective: Any = None,
    direction: str = "maximize",
    **arguments: Any,
) -> tuple[Any, Any, Sequence[optuna.trial.FrozenTrial]]:
    """Run two trials; returns what the search returns, the trainer and the trials."""
    trainer = make_trainer(folder, [callback], model_init=lambda: tiny_model(), **arguments)
    studies = []

    def space(trial: optuna.Trial) -> dict[str, float]:
        studies.append(trial.study)
        return {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2)}

    best = trainer.hyperparameter_search(
        hp_space=space,
        n_trials=2,
        direction=direction,
        backend="optuna",
        compute_objective=compute_objective,
        sampler=optuna.samplers.RandomSampler(seed=1),
        pruner=optuna.pruners.ThresholdPruner(lower=0.05),
    )
    return best, trainer, studies[0].trials


TRAINER_EVALUATES = {"eval_strategy": "steps", "eval_steps": 2, "eval_dataset": pairs(8)}


@pytest.mark.parametrize("arguments", [{}, TRAINER_EVALUATES], ids=["callback only", "the Trainer evaluates too"])
@pytest.mark.parametrize(("load_best", "objectives"), [(True, [0.9, 0.7]), (False, [0.3, 0.7])])
def test_a_trial_is_worth_the_deciding_metric_of_the_model_it_leaves(
    tmp_path: Path, load_best: bool, objectives: list[float], arguments: dict[str, Any]
) -> None:
    callback = EvaluatorCallback(
        {"": InTrials(PEAK, RISE), "other": lambda model, output_path, epoch, steps: -5.0 * steps},
        every=2,
        primary="fake_score",
        load_best_model_at_end=load_best,
    )
    best, _, trials = search(tmp_path, callback, save_strategy="steps", save_steps=8, **arguments)
    assert [trial.value for trial in trials] == objectives
    assert (best.run_id, best.objective) == (str(objectives.index(max(objectives))), max(objectives))
    assert best.hyperparameters == trials[int(best.run_id)].params


def test_each_trial_has_its_own_folder_results_and_best(tmp_path: Path) -> None:
    fake = InTrials(PEAK, RISE)
    loaded = {}

    class Last(EvaluatorCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            super().on_train_end(args, state, control, **kwargs)
            step = int(state.best_model_checkpoint.rsplit("-", 1)[1])
            loaded[state.best_model_checkpoint] = equal_weights(weights_of(model), fake.weights[step])

    callback = Last(fake, every=2, load_best_model_at_end=True)
    search(tmp_path, callback, save_strategy="best", metric_for_best_model="fake_score")
    assert loaded == {str(tmp_path / "run-0/checkpoint-4"): True, str(tmp_path / "run-1/checkpoint-8"): True}
    assert [checkpoints(tmp_path / name) for name in ("run-0", "run-1")] == [[2, 4], [2, 4, 6, 8]]
    for name, values in (("run-0", PEAK), ("run-1", RISE)):
        rows = read_results(tmp_path / name)
        assert dict(zip(rows["steps"], rows["fake_score"], strict=True)) == values
    assert not (tmp_path / "evaluation_results.csv").exists()


@pytest.mark.parametrize(("load_best", "objectives"), [(True, [1.4, 1.4]), (False, [1.0, 1.4])])
def test_an_objective_of_the_users_own_gets_all_metrics(
    tmp_path: Path, load_best: bool, objectives: list[float]
) -> None:
    def total(metrics: dict[str, float]) -> float:
        return metrics["eval_fake_score"] + metrics["eval_other_score"]

    fakes = [InTrials(PEAK, RISE), InTrials(RISE, RISE, name="other")]
    callback = EvaluatorCallback(fakes, every=2, load_best_model_at_end=load_best)
    _, _, trials = search(tmp_path, callback, compute_objective=total, save_strategy="steps", save_steps=8)
    assert [trial.value for trial in trials] == objectives


def test_a_hopeless_trial_is_pruned_at_its_evaluation(tmp_path: Path) -> None:
    fake = InTrials(at_steps(0.3, 0.01, 0.9, 0.9), RISE)
    best, trainer, trials = search(tmp_path, EvaluatorCallback(fake, every=2))
    assert [trial.state.name for trial in trials] == ["PRUNED", "COMPLETE"]
    assert trials[0].intermediate_values == {2: 0.3, 4: 0.01}
    assert trials[1].intermediate_values == RISE
    assert fake.steps == [2, 4, 2, 4, 6, 8]
    assert best.run_id == "1"
    assert read_results(tmp_path / "run-0")["steps"].tolist() == [2, 4]


def test_a_trial_without_a_value_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    calls: list[int] = []

    def broken_at_first(model: Any, output_path: Any, epoch: float, steps: int) -> float:
        calls.append(steps)
        if len(calls) <= 2:
            raise ValueError("not yet")
        return 0.5

    callback = EvaluatorCallback(broken_at_first, on_error="warn")
    best, _, trials = search(tmp_path, callback)
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]
    assert (best.run_id, best.objective) == ("1", 0.5)


def test_a_metric_that_is_known_only_after_it_was_measured_decides_too(tmp_path: Path) -> None:
    callback = EvaluatorCallback(lambda model, output_path, epoch, steps: {"a": 0.5 * steps, "b": 9.0})
    _, _, trials = search(tmp_path, callback)
    assert [trial.value for trial in trials] == [4.0, 4.0]


@pytest.mark.parametrize(
    ("direction", "greater_is_better", "warned"),
    [("maximize", True, False), ("minimize", True, True), ("maximize", False, True), ("minimize", False, False)],
)
def test_a_direction_that_returns_the_worst_trial_is_obeyed_and_said(
    tmp_path: Path, direction: str, greater_is_better: bool, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    fake = InTrials({2: 0.3}, {2: 0.7})
    fake.greater_is_better = greater_is_better
    best, _, _ = search(tmp_path, EvaluatorCallback(fake), direction=direction, max_steps=2)
    assert best.objective == (0.7 if direction == "maximize" else 0.3)
    assert ("returns the worst trial by eval_fake_score" in caplog.text) == warned
