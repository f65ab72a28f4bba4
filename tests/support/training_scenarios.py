"""Training with the callback in several processes, as the Trainer runs them under `torchrun`."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import torch.distributed as dist
from support import scenarios
from support.loop import Fake, StopAt, at_steps, checkpoints, make_trainer, pairs, read_results
from support.scenarios import models, retrieval, similarity, triplets

from st_eval_callbacks import EvaluatorCallback, Scheduled, run_record

VALUES = at_steps(0.1, 0.9, 0.2, 0.3)
# Each process takes its own time for the Trainer's evaluation; of ours all log the main one's.
TRAINERS_TIMES = {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
SAVES = {"save_strategy": "steps", "save_steps": 2}


def prepare() -> None:
    """Make the models."""
    scenarios.prepare()


def train(folder: Path, callbacks: list[Any], resume: bool = False, **arguments: Any) -> Any:
    """Train with half the batch a process for two of them, so that steps are those of one; the trainer."""
    arguments = {"ddp_find_unused_parameters": True, **arguments}
    trainer = make_trainer(folder, callbacks, model=copy.deepcopy(models()["plain"]), max_steps=8, **arguments)
    trainer.train(resume_from_checkpoint=True if resume else None)
    return trainer


def account(trainer: Any, folder: Path) -> dict[str, Any]:
    """What this process knows of a run that has ended."""
    if dist.is_initialized():
        dist.barrier()
    state, digest = trainer.state, hashlib.sha256()
    for name, weight in sorted(trainer.model.state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    best = state.best_model_checkpoint
    return {
        "log": [
            {key: value for key, value in entry.items() if key not in TRAINERS_TIMES}
            for entry in state.log_history[:-1]
        ],
        "best_step": state.best_global_step,
        "best": None if best is None else Path(best).name,
        "checkpoints": checkpoints(folder),
        "weights": digest.hexdigest(),
        "steps": read_results(folder)["steps"].tolist(),
    }


def evaluators() -> list[Any]:
    """Bundled ones at two intervals."""
    return [triplets(7, "t"), Scheduled(retrieval(5, 11, "r"), every=4), similarity(9, "s")]


def best_known_on_main_only(folder: Path) -> Any:
    """Case C1: the evaluator runs on the main process; all know what it found, and load the same."""
    callback = EvaluatorCallback(Fake(VALUES), every=2, load_best_model_at_end=True)
    return account(train(folder / "best", [callback], **SAVES), folder / "best")


def bundled(folder: Path) -> Any:
    """Ours, with the best saved and loaded."""
    callback = EvaluatorCallback(evaluators(), every=2, load_best_model_at_end=True)
    return account(train(folder / "bundled", [callback], save_total_limit=1, **SAVES), folder / "bundled")


def resumed(folder: Path) -> Any:
    """The same, broken off and resumed."""
    try:
        train(folder / "resumed", [EvaluatorCallback(evaluators(), every=2), StopAt(5)], **SAVES)
    except KeyboardInterrupt:
        pass
    dist.barrier()
    callback = EvaluatorCallback(evaluators(), every=2, load_best_model_at_end=True)
    return account(train(folder / "resumed", [callback], resume=True, **SAVES), folder / "resumed")


def trainer_evaluates(folder: Path) -> Any:
    """The Trainer's own evaluations decide the best by a metric of ours, and stop early."""
    callback = EvaluatorCallback(Fake(VALUES), early_stopping_patience=2)
    trainer = train(
        folder / "trainer",
        [callback],
        eval_dataset=pairs(8),
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="fake_score",
        **SAVES,
    )
    return account(trainer, folder / "trainer")


def losses(folder: Path) -> Any:
    """Losses and weights with the callback and without."""
    found = []
    for number, callbacks in enumerate([[], [EvaluatorCallback(evaluators(), every=1)]]):
        trainer = train(folder / f"losses{number}", callbacks)
        digest = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in trainer.model.state_dict().values()))
        kept = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        found.append({"losses": kept, "weights": digest.hexdigest()})
    return found


def table_cannot_be_written(folder: Path) -> Any:
    """The main process alone writes the table; its disk is full."""

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    original, run_record.write_results = run_record.write_results, full
    try:
        train(folder / "full", [EvaluatorCallback(triplets(4, "t"), every=2)])
    finally:
        run_record.write_results = original


def misconfigured(folder: Path) -> Any:
    """What is refused before the first step is refused everywhere."""
    train(folder / "wrong", [EvaluatorCallback(triplets(4, "t"), every=2, primary="t_cosine_acuracy")])


def afterwards(folder: Path) -> Any:
    """The processes are still in step."""
    return account(train(folder / "after", [EvaluatorCallback(triplets(4, "t"), every=4)]), folder / "after")
