"""How an evaluator measures several sizes of embedding from one encoding."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ..encoding import whole


class HasSizes:
    """What `Evaluator` adds for `truncate_dims`: one evaluator a size, which share all that is encoded.

    Attributes:
        truncate_dims: The sizes, in leading dimensions; empty for the one of `truncate_dim`.
        is_sized: Whether this is the evaluator of one of another's sizes.
    """

    name: str
    truncate_dim: int | None
    truncate_dims: tuple[int, ...] = ()
    is_sized: bool = False

    @cached_property
    def at_sizes(self) -> list[Any]:
        """The evaluator of each size, in the order given; empty without `truncate_dims`."""
        return [self.at_size(dim) for dim in self.truncate_dims]

    def at_size(self, dim: int) -> Any:
        """This evaluator for one size; its name and files have the size behind them, as in chains of such evaluators.

        Args:
            dim: Leading dimensions of the embeddings to use.
        """
        made = copy.copy(self)
        made.__dict__.pop("at_sizes", None)
        made.truncate_dims, made.truncate_dim, made.is_sized = (), dim, True
        made.name = f"{self.name}_{dim}" if self.name else str(dim)
        for file in ("csv_file", "predictions_file"):
            if isinstance(own := getattr(self, file, None), str):
                setattr(made, file, sized_file(own, dim))
        return made


def sized_file(name: str, dim: int) -> str:
    """The name of a file for one size.

    Examples:
        >>> sized_file("triplet_evaluation_dev_results.csv", 64), sized_file("margin.csv", 64)
        ('triplet_evaluation_dev_64_results.csv', 'margin_64.csv')
    """
    for end in ("_results", "_predictions", "."):
        stem, found, rest = name.rpartition(end)
        if found:
            return f"{stem}_{dim}{found}{rest}"
    return f"{name}_{dim}"


def checked_dims(truncate_dim: int | None, truncate_dims: Sequence[int] | None) -> tuple[int, ...]:
    """The sizes to measure.

    Args:
        truncate_dim: The only one, or None.
        truncate_dims: Several, or None.

    Returns:
        `truncate_dims` as a tuple; empty for None.

    Raises:
        ValueError: When one is below 1 or comes twice, there is none, or both are given.
    """
    if truncate_dim is not None and truncate_dim < 1:
        raise ValueError(f"truncate_dim={truncate_dim}: at least 1, or None for all dimensions.")
    if truncate_dims is None:
        return ()
    try:
        dims = tuple(operator.index(dim) for dim in truncate_dims)
    except TypeError:
        dims = ()
    if not dims or any(isinstance(dim, bool) for dim in truncate_dims):
        raise ValueError(f"truncate_dims={truncate_dims!r}: several whole numbers, such as [384, 128].")
    if truncate_dim is not None:
        raise ValueError(f"truncate_dim={truncate_dim} and truncate_dims={truncate_dims}: give one of them.")
    if min(dims) < 1 or len(set(dims)) < len(dims):
        raise ValueError(f"truncate_dims={list(dims)}: different numbers, each at least 1, or None.")
    return dims


def check_sizes(label: str, dims: Sequence[int], scorer: Any) -> None:
    """Refuse sizes that a model does not have.

    Args:
        label: How messages name the evaluator.
        dims: The sizes.
        scorer: The model.

    Raises:
        TypeError: When its embeddings are not dense.
        ValueError: When it has fewer dimensions.
    """
    if dims and scorer.kind != "dense":
        raise TypeError(
            f"{label}: truncate_dims={list(dims)} is for dense embeddings, and {type(scorer.model).__name__} is a "
            f"{scorer.kind} model."
        )
    ask = getattr(scorer.model, "get_embedding_dimension", None)
    with whole(scorer.model):
        width = ask() if callable(ask) else None
    if isinstance(width, int) and any(dim > width for dim in dims):
        raise ValueError(f"{label}: truncate_dims={list(dims)}, but the model's embeddings have {width} dimensions.")
