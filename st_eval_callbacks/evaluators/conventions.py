"""Conventions of retrieval evaluation, by name: what counts as relevant, and which documents are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..kernels.formulas import MEASURES

Wanted = tuple[str, int | None]
"""A measure and its cutoff; None for the whole list."""

GAINS = ("linear", "exponential")
TIES = ("id", "expected")
FORMATS = ("jsonl", "trec")
# Sums over as many documents as fit into memory stay finite in float64.
_MOST_LINEAR, _MOST_EXPONENTIAL = 1e290, 960


@dataclass(frozen=True)
class Conventions:
    """How hits are judged; `InformationRetrievalEvaluator` says what each means.

    Attributes:
        ties: "id" or "expected".
        gain: "linear" or "exponential".
        relevance_threshold: Least gain of a relevant document; None for any above 0.
        ignore_identical_ids: Whether the document with the query's own id is left out.
        ignore_missing_docs: Whether relevant documents that are not in the corpus are left out.
        ignore_unjudged: Whether documents that nobody judged for the query are left out.

    Raises:
        ValueError: When a name is unknown, the threshold is not above 0, or two of them cannot be combined.
    """

    ties: str = "id"
    gain: str = "linear"
    relevance_threshold: float | None = None
    ignore_identical_ids: bool = False
    ignore_missing_docs: bool = False
    ignore_unjudged: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not exist or cannot be."""
        if self.ties not in TIES:
            raise ValueError(f"ties={self.ties!r}: 'id' or 'expected'.")
        if self.gain not in GAINS:
            raise ValueError(f"gain={self.gain!r}: 'linear' or 'exponential'.")
        if self.relevance_threshold is not None and not self.relevance_threshold > 0:
            raise ValueError(f"relevance_threshold={self.relevance_threshold}: above 0, or None for any gain above 0.")
        for name in ("ignore_identical_ids", "ignore_unjudged"):
            if self.ties == "expected" and getattr(self, name):
                raise ValueError(f"ties='expected' and {name}=True cannot be combined.")

    def is_relevant(self, gain: float) -> bool:
        """Whether a document of some gain is relevant to the measures that know no grades."""
        return gain > 0 if self.relevance_threshold is None else gain >= self.relevance_threshold

    def computed(self, measure: Wanted) -> Wanted:
        """The measure that is computed for one that is asked for."""
        name, cutoff = measure
        return ("ndcg_exp", cutoff) if name == "ndcg" and self.gain == "exponential" else measure

    def check_gain(self, label: str, wanted: Sequence[Wanted], largest: float) -> None:
        """Refuse gains whose sum would overflow.

        Raises:
            ValueError: Says what is allowed.
        """
        exponential = any(self.computed(one)[0] == "ndcg_exp" for one in wanted)
        most = _MOST_EXPONENTIAL if exponential else _MOST_LINEAR
        if largest > most:
            kind = "exponential" if exponential else "linear"
            raise ValueError(
                f"{label}: a document has the gain {largest:g}; with {kind} gain at most {most:g} is allowed."
            )

    def check(self, label: str, wanted: Sequence[Wanted]) -> None:
        """Refuse measures that have no mean over the orders of tied documents.

        Raises:
            ValueError: Names them.
        """
        names = [name for name, _ in wanted if MEASURES[name].needs_judged]
        if names and self.ties == "expected":
            raise ValueError(f"{label}: ties='expected' is not for {', '.join(dict.fromkeys(names))}.")


def checked_formats(write_predictions: bool | str | Sequence[str]) -> tuple[str, ...]:
    """The formats in which hits are written.

    Args:
        write_predictions: False for none, True for "jsonl", or names of formats.

    Returns:
        Any of "jsonl" and "trec".

    Raises:
        ValueError: When a name is unknown.

    Examples:
        >>> checked_formats(True), checked_formats("trec"), checked_formats(False)
        (('jsonl',), ('trec',), ())
    """
    if isinstance(write_predictions, bool):
        return ("jsonl",) if write_predictions else ()
    names = [write_predictions] if isinstance(write_predictions, str) else list(write_predictions)
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise ValueError(f"write_predictions={write_predictions!r}: True, False, or any of {', '.join(FORMATS)}.")
    return tuple(dict.fromkeys(names))
