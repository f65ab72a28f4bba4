"""Checks of what evaluators are given, before anything is encoded."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence, Sized
from typing import Any

from ..kernels.similarity import SIMILARITY_NAMES


def check_equal_lengths(label: str, **columns: Sized) -> None:
    """Refuse empty columns and columns of different lengths.

    Raises:
        ValueError: Names the columns and their lengths.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{label}: " + ", ".join(f"{n} {name}" for name, n in lengths.items()) + " must be as many.")
    if not next(iter(lengths.values())):
        raise ValueError(f"{label}: there is nothing to evaluate, {' and '.join(lengths)} are empty.")


def check_dense_precision(label: str, precision: str | None, scorer: Any) -> None:
    """Refuse to quantise embeddings that are not dense.

    Raises:
        TypeError: Names the model and its kind.
    """
    if precision is not None and scorer.kind != "dense":
        raise TypeError(
            f"{label}: precision={precision!r} is for dense embeddings, and {type(scorer.model).__name__} is a "
            f"{scorer.kind} model."
        )


def check_similarity_names(label: str, names: Sequence[Any], allowed: Sequence[str] = SIMILARITY_NAMES) -> list[str]:
    """Read names of similarity functions; one given twice counts once.

    Raises:
        ValueError: Says what was given, what is allowed and what was probably meant.
    """
    found = [str(getattr(name, "value", name)) for name in names]
    unknown = [name for name in found if name not in allowed]
    if unknown:
        near = difflib.get_close_matches(unknown[0], allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{label}: unexpected names {unknown}; there is {', '.join(allowed)}.{hint}")
    return found


def sample_ids(samples: Sequence[Mapping[str, Any]] | Mapping[Any, Mapping[str, Any]]) -> list[Any]:
    """What names each sample: its `query_id`, else its key in a dictionary, else its place."""
    keys = samples if isinstance(samples, Mapping) else range(len(samples))
    each = samples.values() if isinstance(samples, Mapping) else samples
    return [sample.get("query_id", key) for key, sample in zip(keys, each, strict=True)]
