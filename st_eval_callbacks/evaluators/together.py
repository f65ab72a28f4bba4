"""What several evaluators want of a model, encoded in one go."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.base.evaluation import SequentialEvaluator as BaseSequentialEvaluator

from ..scorers import scorer_for

logger = logging.getLogger(__name__)


def inner_evaluators(evaluator: Any) -> list[BaseEvaluator]:
    """An evaluator and all those inside it, those of its sizes among them."""
    found = [evaluator]
    for one in getattr(evaluator, "at_sizes", ()) or _parts(evaluator):
        found += inner_evaluators(one)
    return found


def parts_of(evaluator: Any) -> list[BaseEvaluator]:
    """The evaluators of its sizes, or those that a sequence runs, down to those that are neither; without itself."""
    is_sequence = isinstance(evaluator, BaseSequentialEvaluator)
    parts = getattr(evaluator, "at_sizes", ()) or (_parts(evaluator) if is_sequence else ())
    found: list[BaseEvaluator] = []
    for one in parts:
        found += parts_of(one) or [one]
    return found


def _asking(evaluator: Any) -> list[BaseEvaluator]:
    """An evaluator and those inside it that say what they want; all sizes of one want the same."""
    found = [evaluator]
    for one in _parts(evaluator):
        found += _asking(one)
    return found


def _parts(evaluator: Any) -> list[Any]:
    inner = getattr(evaluator, "evaluators", ())
    return list(inner.values() if isinstance(inner, Mapping) else inner)


def runs_together(evaluator: Any) -> bool:
    """Whether an evaluator and all those inside it make the same calls on all processes, and share their work.

    Those of this package do; others know nothing of it.
    """
    return all(
        callable(getattr(one, "wants", None)) or isinstance(one, BaseSequentialEvaluator)
        for one in inner_evaluators(evaluator)
    )


def encode_together(
    evaluators: Iterable[Any], model: Any, within: AbstractContextManager[Any] | None = None
) -> dict[int, int]:
    """Encode what evaluators will ask for, in one order of length, into the session that is open.

    Nothing is lost by a failure: an evaluator whose texts cannot be encoded meets the same error when it runs, and can
    then be named.

    Args:
        evaluators: Evaluators of any kind, those inside others not among them; those that do not say what they want
            encode it when they run.
        model: The model.
        within: Entered for the encoding.

    Returns:
        Number of inputs wanted by each evaluator, by its place.
    """
    wanted: list[Any] = []
    counts: dict[int, int] = {}
    scorer = None
    for place, evaluator in enumerate(evaluators):
        counts[place] = 0
        for one in _asking(evaluator):
            ask = getattr(one, "wants", None)
            if not callable(ask):
                continue
            try:
                scorer = scorer_for(model) if scorer is None else scorer
                wishes = ask(scorer)
            except (TypeError, ValueError):
                # It does not fit the model, and says so when it runs.
                continue
            counts[place] += sum(len(wish.inputs) for wish in wishes)
            wanted += wishes
    if scorer is not None and wanted:
        try:
            with within or nullcontext():
                scorer.prepare(wanted)
        except Exception as error:
            logger.warning("texts were not encoded together (%s); each evaluator encodes its own.", error)
    return counts
