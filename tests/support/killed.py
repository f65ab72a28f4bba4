"""Trains in child processes that are killed and started again until one gets to the end.

`python -m support.killed SET_UP FOLDER SEED` trains once without a kill in `FOLDER/whole`, then again with kills in
`FOLDER/cut`, and prints the number of kills. What training ends with is in `FOLDER/whole.pt` and `FOLDER/cut.pt`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from support.loop import WORDS, Fake, make_trainer, pairs, weights_of
from support.models import tiny_model
from transformers import TrainerCallback

from st_eval_callbacks import EvaluatorCallback, Scheduled, last_checkpoint
from st_eval_callbacks.evaluators import EmbeddingSimilarityEvaluator, InformationRetrievalEvaluator

LEAST_KILLS, MOST_KILLS = 3, 10
VALUES = [0.3, 0.5, 0.4, 0.9, 0.2, 0.8, 0.7, 0.95, 0.6, 0.94, 0.1, 0.93]


class Ticks:
    """Counts moments at which a kill hurts: changes of files in a folder, and those an evaluator or step reports.

    Args:
        folder: Whose files are watched.
        kill_at: The process kills itself at this tick; 0 never.
    """

    def __init__(self, folder: Path, kill_at: int) -> None:
        self.folder = str(folder)
        self.kill_at = kill_at
        self.count = 0
        sys.addaudithook(self._hear)

    def tick(self) -> None:
        """Count, and die when it is time."""
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _hear(self, event: str, arguments: Any) -> None:
        if event == "open":
            changes = isinstance(arguments[1], str) and any(letter in arguments[1] for letter in "wax+")
            changes = changes or bool(arguments[2] and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        else:
            changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
        if changes and isinstance(arguments[0], (str, os.PathLike)) and str(arguments[0]).startswith(self.folder):
            self.tick()


class Moments(TrainerCallback):
    """Ticks in the middle of steps."""

    def __init__(self, ticks: Ticks) -> None:
        self.ticks = ticks

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Tick."""
        self.ticks.tick()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Tick."""
        self.ticks.tick()


class Ticking(Fake):
    """Ticks in the middle of an evaluation."""

    ticks: Ticks

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Draw random numbers, tick and return."""
        torch.rand(3)
        self.ticks.tick()
        return super().__call__(*args, **kwargs)


def scripted(ticks: Ticks, name: str = "fake", values: list[float] = VALUES) -> Ticking:
    fake = Ticking({step + 1: value for step, value in enumerate(values)}, name=name)
    fake.ticks = ticks
    return fake


def bundled() -> list[Any]:
    texts = {f"d{i}": f"{WORDS[i]} {WORDS[i - 3]}" for i in range(8)}
    queries = {f"q{i}": WORDS[i] for i in range(8)}
    relevant = {f"q{i}": {f"d{i}"} for i in range(8)}
    retrieval = InformationRetrievalEvaluator(queries, texts, relevant, name="find")
    sts = EmbeddingSimilarityEvaluator(WORDS, WORDS[::-1], [i / 8 for i in range(8)], name="sts")
    return [Scheduled(retrieval, every=2), Scheduled(sts, every=3)]


def own_interval(ticks: Ticks) -> tuple[list[Any], dict[str, Any]]:
    callback = EvaluatorCallback(scripted(ticks), every=2, load_best_model_at_end=True)
    return [callback], {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 2}


def trainer_evaluates(ticks: Ticks) -> tuple[list[Any], dict[str, Any]]:
    arguments = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "eval_dataset": pairs(8),
        "metric_for_best_model": "fake_score",
    }
    saves = {"save_strategy": "best", "load_best_model_at_end": True, "save_total_limit": 3}
    return [EvaluatorCallback(scripted(ticks), checkpoint_every="3 steps")], arguments | saves


def epochs_and_bundled(ticks: Ticks) -> tuple[list[Any], dict[str, Any]]:
    arguments = {"eval_strategy": "epoch", "eval_dataset": pairs(8), "metric_for_best_model": "find_cosine_ndcg@10"}
    saves = {"save_strategy": "epoch", "load_best_model_at_end": True, "save_total_limit": 1}
    return [EvaluatorCallback([*bundled(), Scheduled(scripted(ticks), every="50%")])], arguments | saves


def early_stopping(ticks: Ticks) -> tuple[list[Any], dict[str, Any]]:
    values = [0.3, 0.5, 0.9, 0.7, 0.8, 0.2, *[0.99] * 6]
    callback = EvaluatorCallback(
        [Scheduled(scripted(ticks, values=values), every=1), Scheduled(scripted(ticks, "last"), every="50%")],
        early_stopping_patience=3,
        load_best_model_at_end=True,
    )
    return [callback], {"save_strategy": "steps", "save_steps": 2}


def two_callbacks(ticks: Ticks) -> tuple[list[Any], dict[str, Any]]:
    first = EvaluatorCallback(scripted(ticks, "a"), every="0.5 epochs", load_best_model_at_end=True)
    second = EvaluatorCallback([scripted(ticks, "b"), *bundled()], every=3, primary="a_score")
    return [first, second], {
        "save_strategy": "steps",
        "save_steps": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 9,
    }


SET_UPS: dict[str, Callable[[Ticks], tuple[list[Any], dict[str, Any]]]] = {
    "own_interval": own_interval,
    "trainer_evaluates": trainer_evaluates,
    "epochs_and_bundled": epochs_and_bundled,
    "early_stopping": early_stopping,
    "two_callbacks": two_callbacks,
}


def train(set_up: str, folder: Path, kill_at: int) -> None:
    """Train, from the last checkpoint if there is one, and write what it ends with."""
    torch.set_num_threads(1)
    ticks = Ticks(folder, kill_at)
    callbacks, arguments = SET_UPS[set_up](ticks)
    trainer = make_trainer(
        folder, [*callbacks, Moments(ticks)], model=tiny_model(dropout=0.2), **{"num_train_epochs": 3, **arguments}
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    card = trainer.model.model_card_data
    torch.save(
        {
            "log": trainer.state.log_history,
            "step": trainer.state.global_step,
            "best": (trainer.state.best_metric, trainer.state.best_global_step),
            "best_checkpoint": Path(trainer.state.best_model_checkpoint).name,
            "weights": weights_of(trainer.model),
            "card_rows": card.training_logs,
            "card_results": {
                getattr(evaluator, "name", ""): metrics for evaluator, metrics in card.eval_results_dict.items()
            },
            "ticks": ticks.count,
        },
        folder.parent / f"{folder.name}.pt",
    )


def attempt(set_up: str, folder: Path, kill_at: int, seconds: float | None) -> bool:
    """One child. Whether it got to the end; raises when it failed by itself."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            try:
                train(set_up, folder, kill_at)
            except BaseException:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            return False
        if status != 0:
            said.seek(0)
            raise RuntimeError(f"{set_up} ended with status {status}: {said.read()[-4000:]}")
        return True


def main(set_up: str, folder: Path, seed: int) -> None:
    """Train whole, then cut; print the kills that hit."""
    dice = random.Random(seed)
    start = time.perf_counter()
    attempt(set_up, folder / "whole", 0, None)
    duration = time.perf_counter() - start
    num_ticks = torch.load(folder / "whole.pt", weights_only=False)["ticks"]
    kills = 0
    while True:
        # By time a kill may come late, and a few late ones would end it too soon.
        by_time = kills >= LEAST_KILLS and dice.random() < 0.4
        done = attempt(
            set_up,
            folder / "cut",
            0 if by_time or kills >= MOST_KILLS else dice.randint(1, num_ticks // 5),
            dice.uniform(0.1, 0.7) * duration if by_time and kills < MOST_KILLS else None,
        )
        if done:
            break
        kills += 1
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
