"""What the callback itself costs: an evaluator that does nothing, due at every step of training."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

from st_eval_callbacks import EvaluatorCallback

from . import measure
from .compare import Settings
from .report import Section
from .stubs import static_model

NAME = "training with the callback due at every step"
_WORDS = [f"word{number}" for number in range(64)]
_BATCH_SIZE = 8
_STEPS = {"full": (100, 400, 800), "quick": (50, 200), "smallest": (3,)}
_WITHOUT, _WITH = "without", "with"


class Empty(BaseEvaluator):
    """An evaluator that takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "empty"
        self.primary_metric = "empty_score"

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        return {"empty_score": 0.5}


class Clock(TrainerCallback):
    """Tells when the first step began and when the last one had ended, other callbacks included."""

    def __init__(self) -> None:
        self.begin: float | None = None
        self.end = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.begin = self.begin or time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.end = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.end - (self.begin or self.end)


def training(num_steps: int, output_dir: str, callbacks: Callable[[], list[Any]]) -> float:
    """Train for so many steps and return the seconds from the first to the last."""
    model, clock = static_model(_WORDS, 16), Clock()
    texts = [f"{_WORDS[place % 64]} {_WORDS[place * 7 % 64]}" for place in range(512)]
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=output_dir,
            max_steps=num_steps,
            per_device_train_batch_size=_BATCH_SIZE,
            save_strategy="no",
            logging_steps=100,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_dict({"anchor": texts, "positive": texts[::-1]}),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[*callbacks(), clock],
    )
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        trainer.train()
    return clock.seconds


def run(settings: Settings) -> list[Section]:
    """The table."""
    section = Section(
        "Overhead: an empty evaluator due at every step against no callback",
        ("steps", "ms a step without", "ms a step with", "more (min-max)", "rounds"),
    )
    rounds = min(settings.rounds, {"full": 3, "quick": 2, "smallest": 1}[settings.size])
    sides: dict[str, Callable[[], list[Any]]] = {
        _WITHOUT: list,
        _WITH: lambda: [EvaluatorCallback([Empty()], every=1, load_best_model_at_end=False)],
    }
    with tempfile.TemporaryDirectory() as folder:
        for side in sides.values():
            training(3, str(Path(folder) / "warm-up"), side)
        for num_steps in _STEPS[settings.size]:
            settings.say(f"{NAME}: {num_steps:,} steps")
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            for number in range(rounds):
                for name, side in sides.items():
                    output_dir = Path(folder) / f"{name}-{num_steps}-{number}"
                    seconds[name].append(training(num_steps, str(output_dir), side))
            by_step = {name: measure.Spread.of([1e3 * one / num_steps for one in of]) for name, of in seconds.items()}
            more = measure.Spread.of(
                [1e3 * (one - other) / num_steps for one, other in zip(seconds[_WITH], seconds[_WITHOUT], strict=True)]
            )
            section.rows.append(
                (
                    f"{num_steps:,}",
                    f"{by_step[_WITHOUT].median:.2f}",
                    f"{by_step[_WITH].median:.2f}",
                    f"{more.median:.2f} ({more.lowest:.2f}-{more.highest:.2f})",
                    str(rounds),
                )
            )
    section.notes = [
        "A static model of 16 dimensions and batches of 8 texts. The callback measures, logs and writes its table at "
        "every step; longer runs tell whether a step gets dearer as the history grows."
    ]
    return [section]
