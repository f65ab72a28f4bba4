"""A training loop of 4 steps an epoch, and evaluators that return listed values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    SparseEncoderTrainer,
    SparseEncoderTrainingArguments,
)
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss
from transformers import TrainerCallback

from .models import tiny_cross_encoder, tiny_model, tiny_multi_vector_model, tiny_sparse_model

NUM_PAIRS = 32
BATCH_SIZE = 8
STEPS_PER_EPOCH = NUM_PAIRS // BATCH_SIZE
WORDS = ["cat", "dog", "bird", "fish", "man", "woman", "child", "house"]


class Fake(BaseEvaluator):
    """Returns the value listed for the step it is called at, and remembers when it was called.

    Args:
        values: Value by step.
        name: Put before the key.
        metric: The key after the name.
    """

    def __init__(self, values: Mapping[int, float] | float = 0.5, name: str = "fake", metric: str = "score") -> None:
        super().__init__()
        self.values = values
        self.name = name
        self.primary_metric = f"{name}_{metric}"
        self.steps: list[int] = []
        self.weights: dict[int, dict[str, torch.Tensor]] = {}

    def __call__(self, model: Any, output_path: Any = None, epoch: float = -1, steps: int = -1) -> dict[str, float]:
        self.steps.append(steps)
        self.weights.setdefault(steps, weights_of(model))
        value = self.values if isinstance(self.values, (int, float)) else self.values[steps]
        metrics = {self.primary_metric: value}
        if hasattr(model, "model_card_data"):
            self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics


class StopAt(TrainerCallback):
    """Ends the process's training as a crash would, right after a step.

    Args:
        step: The step.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raise at the step."""
        if state.global_step == self.step:
            raise KeyboardInterrupt


def at_steps(*values: float, every: int = 2) -> dict[int, float]:
    """Values by step: the first at `every`, the next at twice that."""
    return {every * (i + 1): value for i, value in enumerate(values)}


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def equal_weights(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are the same bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def pairs(num_pairs: int = NUM_PAIRS) -> Dataset:
    """Pairs of short texts."""
    return Dataset.from_dict(
        {
            "anchor": [f"{WORDS[i % 8]} {WORDS[(i // 8) % 8]}" for i in range(num_pairs)],
            "positive": [f"{WORDS[(i + 3) % 8]} {WORDS[(i // 4) % 8]}" for i in range(num_pairs)],
        }
    )


def labelled_pairs() -> Dataset:
    """The pairs of `pairs`, every third of them called alike."""
    dataset = pairs()
    return dataset.add_column("label", [float(i % 3 == 0) for i in range(len(dataset))])


def splade_loss(model: Any) -> SpladeLoss:
    """A loss of several parts, whose weights the trainer raises step by step."""
    return SpladeLoss(
        model,
        SparseMultipleNegativesRankingLoss(model),
        document_regularizer_weight=3e-2,
        query_regularizer_weight=5e-2,
    )


class Kind(NamedTuple):
    """What one kind of model is trained with."""

    trainer: type
    arguments: type
    model: Callable[..., Any]
    loss: Callable[[Any], torch.nn.Module]
    dataset: Callable[[], Dataset]


KINDS = {
    "dense": Kind(
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        tiny_model,
        MultipleNegativesRankingLoss,
        pairs,
    ),
    "sparse": Kind(SparseEncoderTrainer, SparseEncoderTrainingArguments, tiny_sparse_model, splade_loss, pairs),
    "cross": Kind(
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
        tiny_cross_encoder,
        BinaryCrossEntropyLoss,
        labelled_pairs,
    ),
    "multi_vector": Kind(
        MultiVectorEncoderTrainer,
        MultiVectorEncoderTrainingArguments,
        tiny_multi_vector_model,
        MultiVectorMultipleNegativesRankingLoss,
        pairs,
    ),
}


def make_trainer(
    output_dir: Path | str, callbacks: list[Any] | None = None, kind: str = "dense", **arguments: Any
) -> Any:
    """A trainer of a tiny model: 32 pairs, batch 8, 2 epochs, 8 steps.

    `model`, `model_init`, `train_dataset`, `eval_dataset`, `evaluator` and `loss` go to the trainer, everything else
    to its arguments.
    """
    of_kind = KINDS[kind]
    names = ("model_init", "train_dataset", "eval_dataset", "evaluator", "loss")
    for_trainer = {name: arguments.pop(name) for name in names if name in arguments}
    model = arguments.pop("model", None)
    if model is None and "model_init" not in for_trainer:
        model = of_kind.model()
    settings: dict[str, Any] = {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": BATCH_SIZE,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 12,
        "dataloader_pin_memory": False,
        **arguments,
    }
    return of_kind.trainer(
        model=model,
        args=of_kind.arguments(**settings),
        train_dataset=for_trainer.pop("train_dataset", None) or of_kind.dataset(),
        loss=for_trainer.pop("loss", of_kind.loss if model is None else of_kind.loss(model)),
        callbacks=callbacks,
        **for_trainer,
    )


def crash(output_dir: Path | str, step: int, callbacks: list[Any], **arguments: Any) -> None:
    """Train until a step and no further."""
    with pytest.raises(KeyboardInterrupt):
        make_trainer(output_dir, [*callbacks, StopAt(step)], **arguments).train()


def read_results(output_dir: Path) -> pd.DataFrame:
    """The table of a run."""
    return pd.read_csv(output_dir / "evaluation_results.csv")


def logged(trainer: Any, key: str) -> list[tuple[int, float]]:
    """`(step, value)` wherever the log has the key."""
    return [(entry["step"], entry[key]) for entry in trainer.state.log_history if key in entry]


def checkpoints(output_dir: Path | str) -> list[int]:
    """Steps of the checkpoints on disk, ascending."""
    return sorted(int(path.name.rsplit("-", 1)[1]) for path in Path(output_dir).glob("checkpoint-*"))


def strict_state(output_dir: Path | str, step: int) -> dict[str, Any]:
    """A checkpoint's trainer state, refused when it is no strict JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    path = Path(output_dir) / f"checkpoint-{step}" / "trainer_state.json"
    state: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    return state


def without_times(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A log without times, and without the Trainer's closing line, which forgets the steps before a resume."""
    return [
        {key: value for key, value in entry.items() if not key.endswith(("runtime", "per_second"))}
        for entry in log_history
        if "train_loss" not in entry
    ]
