"""Which metrics stand together in one panel of the plot."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .run import Run

# A size between separators: docs_384, sts-dev-768_spearman_cosine, dim_64, dim64, 128d. The 10 of ndcg@10 is none.
_SIZE = re.compile(r"(?:(?<=[_\-/])|^)(?:dim)?(\d+)d?(?=[_\-/]|$)")


@dataclass(frozen=True)
class Panel:
    """Metrics drawn together: one, or one that was measured at several sizes of the embeddings.

    Attributes:
        title: The metric; where sizes differ, "*" stands for them.
        metrics: Metric by label, the label of a single one being empty.
    """

    title: str
    metrics: dict[str, str]


def default_metrics(run: Run) -> list[str]:
    """What a plot shows unless it is told: what the table shows, and the same at all other sizes."""
    measured = run.history.metric_names()
    shown = [name for evaluator in run.info.evaluators for name in run.shown_metrics(evaluator) if name in measured]
    shown = list(dict.fromkeys(shown))
    stems = {stem for name in shown for stem, _ in _stems(name)}
    owned = set(shown)
    for name in measured:
        if name not in owned and any(stem in stems for stem, _ in _stems(name)):
            shown.append(name)
    return shown


def panels(metrics: Sequence[str]) -> list[Panel]:
    """Put metrics together that differ by one size only.

    Args:
        metrics: Names of metrics.

    Returns:
        Panels in the order of their first metrics; sizes descend.

    Examples:
        >>> [panel.title for panel in panels(["docs_128_ndcg@10", "sts_spearman", "docs_384_ndcg@10"])]
        ['docs_*_ndcg@10', 'sts_spearman']
    """
    members: defaultdict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for name in metrics:
        # Of several numbers in a name the last is the likeliest to be a size.
        for place, (stem, size) in enumerate(reversed(_stems(name))):
            members[stem, place].setdefault(size, name)
    groups = sorted(members.items(), key=lambda item: (-len(item[1]), item[0][1]))
    home: dict[str, Panel] = {}
    for (stem, _), sizes in groups:
        free = {size: name for size, name in sizes.items() if name not in home}
        if len(free) > 1:
            panel = Panel(stem, {str(size): free[size] for size in sorted(free, reverse=True)})
            home.update(dict.fromkeys(free.values(), panel))
    found = [home.get(name) or Panel(name, {"": name}) for name in metrics]
    return _distinct(found)


def _stems(name: str) -> list[tuple[str, int]]:
    """The name with each of its numbers left out in turn, and that number."""
    return [(f"{name[: match.start()]}*{name[match.end() :]}", int(match.group(1))) for match in _SIZE.finditer(name)]


def _distinct(found: Iterable[Panel]) -> list[Panel]:
    distinct: list[Panel] = []
    for panel in found:
        if panel not in distinct:
            distinct.append(panel)
    return distinct
