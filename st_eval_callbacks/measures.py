"""Names of ranking measures as values: ``"ndcg@10"`` parses, prints back, hashes and sorts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .kernels.formulas import MEASURES, checked_cutoffs

ALIASES: Mapping[str, str] = {
    "success": "accuracy",
    "hit_rate": "accuracy",
    "p": "precision",
    "r": "recall",
    "capped_recall": "r_cap",
    "rr": "mrr",
    "recip_rank": "mrr",
    "ndcg_cut": "ndcg",
    "ap": "map",
    "r_precision": "rprec",
}
"""Other names, in lower case, of the measures in ``kernels.formulas.MEASURES``."""


class _Fields(NamedTuple):
    name: str
    cutoff: int | None


class Measure(_Fields):
    """A ranking measure at a cutoff, or over the whole list.

    It is a tuple of name and cutoff: lists of measures go into the ranking kernels as they are, and their results can
    be looked up by them. Measures sort by name, then cutoff, those without a cutoff last.

    Attributes:
        name: Canonical name, a key of ``kernels.formulas.MEASURES``.
        cutoff: Number of hits looked at, at least 1; None for all.

    >>> Measure("ndcg", 10)
    Measure(name='ndcg', cutoff=10)
    >>> [str(measure) for measure in sorted(map(Measure.parse, ["ndcg", "ndcg@100", "MAP@5", "nDCG@20"]))]
    ['map@5', 'ndcg@20', 'ndcg@100', 'ndcg']
    """

    __slots__ = ()

    def __new__(cls, name: str, cutoff: int | None = None) -> Measure:
        """Check and make a measure.

        Raises:
            ValueError: If the name is not a canonical one or the cutoff doesn't fit it.
        """
        checked_cutoffs([(name, cutoff)])
        return super().__new__(cls, name, cutoff)

    @classmethod
    def parse(cls, text: str) -> Measure:
        """Read a measure from its name, with its cutoff after ``@``; upper and lower case mean the same.

        Args:
            text: Such as ``"ndcg@10"``, ``"mrr"``, or with an alias ``"P@10"``, ``"success@1"``.

        Raises:
            ValueError: If there is no such measure or the cutoff doesn't fit it; says what is allowed and which known
                name is nearest.

        >>> str(Measure.parse("P@10")), str(Measure.parse("success@1")), str(Measure.parse("mrr"))
        ('precision@10', 'accuracy@1', 'mrr')
        >>> Measure.parse("ndgc@10")
        Traceback (most recent call last):
        ...
        ValueError: Unknown measure 'ndgc@10'. Did you mean 'ndcg@10'? Measures are accuracy, precision@k, recall, \
r_cap@k, mrr, ndcg, ndcg_exp, map, rprec, bpref, judged@k, hole@k; all but rprec, bpref take a cutoff, as in ndcg@10.
        """
        name, at, digits = text.strip().partition("@")
        name = ALIASES.get(name.lower(), name.lower())
        if name not in MEASURES:
            nearest = difflib.get_close_matches(name, [*MEASURES, *ALIASES], n=1, cutoff=0.5)
            hint = f" Did you mean {nearest[0] + at + digits!r}?" if nearest else ""
            raise ValueError(f"Unknown measure {text!r}.{hint} {_allowed()}")
        if at and not (digits.isascii() and digits.isdecimal()):
            raise ValueError(f"The cutoff in {text!r} must be an integer of at least 1, as in {name}@10.")
        try:
            return cls(name, int(digits) if at else None)
        except ValueError as error:
            raise ValueError(f"Can't read the measure {text!r}: {error}") from None

    def __str__(self) -> str:
        """The canonical text, which ``parse`` reads back."""
        return self.name if self.cutoff is None else f"{self.name}@{self.cutoff}"

    def __getnewargs__(self) -> tuple[str, int | None]:
        """Arguments that copy and pickle make the measure from."""
        return self.name, self.cutoff

    def _order(self) -> tuple[str, float]:
        return self.name, float("inf") if self.cutoff is None else self.cutoff

    def __lt__(self, other: object) -> bool:
        """Whether it sorts before another measure."""
        return self._order() < other._order() if isinstance(other, Measure) else NotImplemented

    def __le__(self, other: object) -> bool:
        """Whether it sorts before another measure or equals it."""
        return self._order() <= other._order() if isinstance(other, Measure) else NotImplemented

    def __gt__(self, other: object) -> bool:
        """Whether it sorts after another measure."""
        return self._order() > other._order() if isinstance(other, Measure) else NotImplemented

    def __ge__(self, other: object) -> bool:
        """Whether it sorts after another measure or equals it."""
        return self._order() >= other._order() if isinstance(other, Measure) else NotImplemented


def read_measures(measures: str | Iterable[str | tuple[str, int | None]]) -> list[Measure]:
    """Measures of their names, or of pairs of name and cutoff; one name alone stands for a list of it.

    Raises:
        ValueError: As `Measure` and `Measure.parse`.

    >>> [str(measure) for measure in read_measures(["P@5", ("ndcg", 10)])], str(read_measures("map")[0])
    (['precision@5', 'ndcg@10'], 'map')
    """
    each = [measures] if isinstance(measures, str) else measures
    return [Measure.parse(one) if isinstance(one, str) else Measure(*one) for one in each]


def _allowed() -> str:
    names = [name + ("@k" if kind.cutoff == "required" else "") for name, kind in MEASURES.items()]
    without = [name for name, kind in MEASURES.items() if kind.cutoff == "never"]
    return f"Measures are {', '.join(names)}; all but {', '.join(without)} take a cutoff, as in ndcg@10."
