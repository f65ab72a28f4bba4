"""Accuracy of a softmax classifier that was trained on top of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers.util import batch_to_device
from torch import Tensor
from torch.utils.data import SequentialSampler

from ..distributed import is_sharded, shares
from ..encoding import untouched
from ..kernels.shares import ALONE, Shares
from ..scorers import Scorer
from .base import Evaluator, warn_nonfinite, warn_undefined


class LabelAccuracyEvaluator(Evaluator):
    """Share of examples whose label has the highest logit, in [0, 1]; higher is better.

    Among equal logits the first counts.

    Args:
        dataloader: Batches of `InputExample`s, which the model's `smart_batching_collate` makes tensors of; for a
            model without it, batches of `(features, labels)`: a list of features, one for each text, and (B,) labels.
        name: Put before every metric.
        softmax_model: Called as `softmax_model(features, labels=None)`, returns `(anything, (B, C) logits)`, as
            `losses.SoftmaxLoss` does.
        write_csv: Whether a call with `output_path` appends to the CSV.
        keep_per_query: Whether to keep one value for each example; see `Evaluator`. Nothing is kept where the data
            loader is not known to give the examples in the same order each time.

    Raises:
        ValueError: When there is no softmax model, or the data loader is known to be empty.
    """

    def __init__(
        self,
        dataloader: Iterable[Any],
        name: str = "",
        softmax_model: Callable[..., tuple[Any, Tensor]] | None = None,
        write_csv: bool = True,
        *,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(name=name, write_csv=write_csv, keep_per_query=keep_per_query)
        if softmax_model is None:
            raise ValueError(f"{self.label}: softmax_model=None; give the loss that predicts the labels.")
        if isinstance(dataloader, Sized) and _is_empty(dataloader):
            raise ValueError(f"{self.label}: there is nothing to evaluate, the data loader is empty.")
        self.dataloader = dataloader
        self.softmax_model = softmax_model
        self.csv_file = "_".join(["accuracy_evaluation", *filter(None, [name]), "results.csv"])
        self._counted = (0, 0)

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`accuracy`."""
        return ["accuracy"]

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"Evaluation on the {self.name} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """The accuracy and the counts behind it."""
        num_correct, total = self._counted
        return [f"Accuracy: {metrics['accuracy']:.4f} ({num_correct}/{total})\n"]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Classify all examples."""
        model = scorer.model
        shared = self._shares(model)
        num_correct = num_nonfinite = total = 0
        right: list[Tensor] = []
        with untouched(self.softmax_model), _collated(self.dataloader, getattr(model, "smart_batching_collate", None)):
            for place, (features, labels) in enumerate(self.dataloader):
                if place % shared.num != shared.index:
                    continue
                moved = [batch_to_device(feature, model.device) for feature in features]
                _, logits = self.softmax_model(moved, labels=None)
                predicted = logits.argmax(dim=1)
                is_right = predicted == labels.to(predicted.device).view(-1)
                right += [is_right.cpu()] if self.keep_per_query else []
                num_correct += int(is_right.sum())
                num_nonfinite += int((~logits.isfinite().all(dim=1)).sum())
                total += len(predicted)
        counts = torch.stack(shared.gather(torch.tensor([num_correct, num_nonfinite, total]))).sum(dim=0)
        num_correct, num_nonfinite, total = counts.tolist()
        self._counted = (num_correct, total)
        if self.keep_per_query and self._is_in_order():
            self.keep(range(total), {"accuracy": _merged(right, shared)})
        if num_nonfinite:
            warn_nonfinite(self.label, num_nonfinite, total, "examples' logits")
            return {"accuracy": math.nan}
        if not total:
            warn_undefined(self.label, "the data loader gave no batches")
            return {"accuracy": math.nan}
        return {"accuracy": num_correct / total}

    def _shares(self, model: Any) -> Shares:
        """Batches are dealt out where all processes see them in one order; a sharded model must run equally often."""
        return shares() if self._is_in_order() and not is_sharded(model) else ALONE

    def _is_in_order(self) -> bool:
        """Whether the examples come in the same order each time."""
        sampler = getattr(self.dataloader, "sampler", None)
        return isinstance(self.dataloader, Sequence) or isinstance(sampler, SequentialSampler)


def _merged(right: list[Tensor], shared: Shares) -> Tensor:
    """What all found of their batches, which were dealt out one by one, in the order of the batches."""
    found = shared.gather(torch.cat([torch.empty(0, dtype=torch.bool), *right]))
    sizes = shared.gather(torch.tensor([len(one) for one in right], dtype=torch.int64))
    each = [torch.split(one, size.tolist()) for one, size in zip(found, sizes, strict=True)]
    places = range(sum(map(len, each)))
    return torch.cat([found[0][:0], *(each[place % shared.num][place // shared.num] for place in places)])


def _is_empty(dataloader: Sized) -> bool:
    try:
        return not len(dataloader)
    except TypeError:
        # A DataLoader over an iterable dataset has a `__len__` that raises.
        return False


@contextmanager
def _collated(dataloader: Any, collate_fn: Callable[[Any], Any] | None) -> Iterator[None]:
    """Let a data loader collate in another way, and as before afterwards."""
    if collate_fn is None or not hasattr(dataloader, "collate_fn"):
        yield
        return
    before = dataloader.collate_fn
    dataloader.collate_fn = collate_fn
    try:
        yield
    finally:
        dataloader.collate_fn = before
