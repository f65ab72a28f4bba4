"""The best, what is saved and what is loaded, on every combination of arguments, against an obvious account."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.loop import Fake, checkpoints, equal_weights, make_trainer, pairs, weights_of
from support.models import tiny_model

from st_eval_callbacks import EvaluatorCallback

NAN = float("nan")
NUM_STEPS = 8
EPOCH_ENDS = [4, 8]

EVAL = {
    "no": {},
    "every step": {"eval_strategy": "steps", "eval_steps": 1},
    "2 steps": {"eval_strategy": "steps", "eval_steps": 2},
    "3 steps": {"eval_strategy": "steps", "eval_steps": 3},
    "epoch": {"eval_strategy": "epoch"},
}
SAVE = {
    "no": {"save_strategy": "no"},
    "2 steps": {"save_strategy": "steps", "save_steps": 2},
    "3 steps": {"save_strategy": "steps", "save_steps": 3},
    "epoch": {"save_strategy": "epoch"},
    "best": {"save_strategy": "best"},
}
LOAD = ["not", "by the arguments", "by the callback"]
LIMIT = [None, 1, 2]
EVERY = [None, 2, 3, "1 epochs"]

# Value by step; the second says whether greater is better.
VALUES: list[tuple[list[float], bool]] = [
    ([0.1, 0.3, 0.9, 0.5, 0.4, 0.8, 0.2, 0.6], True),
    ([NAN, NAN, 0.2, 0.7, NAN, 0.7, 0.7, 0.9], True),
    ([0.9, 0.8, 0.5, 0.6, 0.4, 0.3, 0.7, 0.3], False),
    ([0.9, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4], True),
    ([NAN] * 8, True),
]


@dataclass(frozen=True)
class Combination:
    """One line of the table."""

    evaluates: str
    saves: str
    loads: str
    limit: int | None
    every: Any
    values: int

    @property
    def arguments(self) -> dict[str, Any]:
        """For the trainer."""
        return {
            **EVAL[self.evaluates],
            **SAVE[self.saves],
            "save_total_limit": self.limit,
            "load_best_model_at_end": self.loads == "by the arguments",
        }

    def __str__(self) -> str:
        return (
            f"evaluates {self.evaluates}, saves {self.saves}, loads {self.loads}, limit {self.limit}, "
            f"every {self.every}, values {self.values}"
        )


@dataclass(frozen=True)
class Account:
    """What must be true when training is over."""

    evaluated: list[int]
    best: int | None
    kept: list[int]


def multiples(steps: int) -> list[int]:
    return [step for step in range(1, NUM_STEPS + 1) if step % steps == 0]


def account_of(case: Combination) -> Account:
    trainer_evaluates = {
        "no": [],
        "every step": multiples(1),
        "2 steps": multiples(2),
        "3 steps": [*multiples(3), NUM_STEPS],
        "epoch": EPOCH_ENDS,
    }[case.evaluates]
    ours = {
        None: EPOCH_ENDS if case.evaluates == "no" else trainer_evaluates,
        2: multiples(2),
        3: multiples(3),
        "1 epochs": EPOCH_ENDS,
    }[case.every]
    evaluated = sorted({*trainer_evaluates, *ours, NUM_STEPS})

    values, greater = VALUES[case.values]
    news: list[int] = []
    for step in evaluated:
        value = values[step - 1]
        if math.isnan(value):
            continue
        best = values[news[-1] - 1] if news else None
        if best is None or (value > best if greater else value < best):
            news.append(step)

    trainer_saves = {
        "no": [],
        "2 steps": multiples(2),
        "3 steps": [*multiples(3), NUM_STEPS],
        "epoch": EPOCH_ENDS,
        "best": [],
    }[case.saves]
    saved = [] if case.saves == "no" else sorted({*trainer_saves, *news})
    kept: list[int] = []
    for step in saved:
        kept.append(step)
        best_yet = [new for new in news if new <= step]
        needed = {step, *best_yet[-1:]}
        while case.limit is not None and len(kept) > max(case.limit, len(needed)):
            kept.remove(next(one for one in kept if one not in needed))
    best_step = news[-1] if news else None
    if case.limit == 1 and best_step is not None and saved:
        kept = [best_step]
    return Account(evaluated, best_step, kept)


def refused_by_the_arguments(case: Combination) -> bool:
    """What `TrainingArguments` and the trainer's constructor say no to."""
    if case.loads != "by the arguments" or case.saves == "best":
        return False
    evaluates, saves = EVAL[case.evaluates], SAVE[case.saves]
    if evaluates.get("eval_strategy", "no") != saves["save_strategy"]:
        return True
    return saves["save_strategy"] == "steps" and saves["save_steps"] % evaluates["eval_steps"] != 0


EVERYTHING = [
    Combination(*chosen, values=number % len(VALUES))
    for number, chosen in enumerate(itertools.product(EVAL, SAVE, LOAD, LIMIT, EVERY))
]
ACCEPTED = [
    case
    for case in EVERYTHING
    # Nothing saved and yet loaded: the callback refuses that, which other tests show.
    if not refused_by_the_arguments(case) and (case.saves != "no" or case.loads == "not")
]


def run(case: Combination, folder: Path) -> tuple[Any, Fake]:
    values, greater = VALUES[case.values]
    fake = Fake({step: values[step - 1] for step in range(1, NUM_STEPS + 1)})
    fake.greater_is_better = greater
    load = True if case.loads == "by the callback" else None
    callback = EvaluatorCallback(fake, every=case.every, load_best_model_at_end=load)
    arguments = case.arguments
    if case.saves == "best" or case.loads == "by the arguments":
        arguments["metric_for_best_model"] = "fake_score"
        arguments["greater_is_better"] = greater
    if case.evaluates != "no":
        arguments["eval_dataset"] = pairs(8)
    model = tiny_model()
    # A card takes longer than all steps together, and other tests read it.
    model._create_model_card = lambda *args, **kwargs: None
    trainer = make_trainer(folder, [callback], model=model, **arguments)
    trainer.train()
    return trainer, fake


def check(case: Combination, folder: Path) -> None:
    trainer, fake = run(case, folder)
    right = account_of(case)
    values, _ = VALUES[case.values]
    assert fake.steps == right.evaluated, case
    best_value = None if right.best is None else values[right.best - 1]
    assert trainer.state.best_metric == best_value, case
    if case.saves != "no":
        assert trainer.state.best_global_step == right.best, case
    assert checkpoints(folder) == right.kept, case
    loaded = right.best if case.loads != "not" and right.best is not None else NUM_STEPS
    assert equal_weights(weights_of(trainer.model), fake.weights[loaded]), case


@pytest.mark.parametrize("case", ACCEPTED[::23], ids=str)
def test_the_best_is_right_on_a_sample_of_all_combinations(tmp_path: Path, case: Combination) -> None:
    check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("evaluates", EVAL)
@pytest.mark.parametrize("saves", SAVE)
def test_the_best_is_right_on_all_combinations(tmp_path: Path, evaluates: str, saves: str) -> None:
    cases = [case for case in ACCEPTED if (case.evaluates, case.saves) == (evaluates, saves)]
    assert cases
    for number, case in enumerate(cases):
        check(case, tmp_path / str(number))


def test_the_table_holds_what_the_arguments_accept_and_what_they_refuse(tmp_path: Path) -> None:
    for number, case in enumerate(EVERYTHING):
        if case.loads != "by the arguments" or case.limit is not None or case.every is not None:
            continue
        arguments = case.arguments | {"metric_for_best_model": "fake_score", "eval_dataset": pairs(8)}
        if refused_by_the_arguments(case):
            with pytest.raises(ValueError, match="--load_best_model_at_end requires"):
                make_trainer(tmp_path / str(number), [EvaluatorCallback(Fake())], **arguments)
        else:
            make_trainer(tmp_path / str(number), [EvaluatorCallback(Fake())], **arguments)
    assert len(EVERYTHING) == 900
    assert len(ACCEPTED) == 660
