"""Metrics against steps, one panel an evaluator. Needs matplotlib."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..history import History
from .numbers import fold, value_format
from .run import Run
from .series import Panel, default_metrics, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150

# Okabe and Ito's colours, which people who cannot tell red from green can tell apart; on grey paper the dashes and the
# markers tell.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#666666"

# Inches. By the number of panels a row; three are as wide as a page, so that 8 points stay readable in print.
_PANELS = {1: (4.6, 2.6), 2: (3.1, 2.1), 3: (2.35, 1.65)}
_LEFT, _BETWEEN, _RIGHT = 0.62, 0.68, 0.15
_LINE, _UNDER, _FOOT = 0.15, 0.42, 0.34
_SIZE = 8.0


def plot(
    source: Run | History | str | Path,
    path: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw how metrics went: one panel an evaluator, one line in it for each size of the embeddings.

    Args:
        source: The run, its history, or the path of either.
        path: Where to save the figure; the ending (.png, .pdf, .svg) says in which format. None saves nothing.
        metrics: Log keys with or without "eval_". None takes the primary metric of each evaluator, and the same at
            other sizes: names that differ in one number between separators (`docs_384_...`, `docs_128_...`).
        title: Line above all.

    Returns:
        The figure. It belongs to no window and no pyplot state, so any thread may draw one.

    Raises:
        ImportError: When matplotlib is not installed.
        ValueError: When there is nothing to draw, or a metric was not measured.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    run = Run.of(source)
    drawn = panels(_chosen(run, metrics))
    columns = {1: 1, 2: 2, 4: 2}.get(len(drawn), 3)
    rows = math.ceil(len(drawn) / columns)
    width, height = _PANELS[columns]
    names = [fold(panel.title, int(width * 14)) for panel in drawn]
    # All titles have room for the longest of them, and a line for the best.
    above = _LINE * (max(map(len, names)) + 1) + 0.1
    top = 0.3 if title else 0.05
    page = (
        _LEFT + columns * width + (columns - 1) * _BETWEEN + _RIGHT,
        top + rows * (above + height + _UNDER) + _FOOT,
    )
    figure = Figure(figsize=page, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        figure.text(_LEFT / page[0], 1 - 0.2 / page[1], title, fontsize=_SIZE + 2, parse_math=False)
    for place, (panel, lines) in enumerate(zip(drawn, names, strict=True)):
        row, column = divmod(place, columns)
        left = _LEFT + column * (width + _BETWEEN)
        bottom = page[1] - top - (row + 1) * (above + height) - row * _UNDER
        axes = figure.add_axes((left / page[0], bottom / page[1], width / page[0], height / page[1]))
        _draw(axes, run, panel, lines)
    _explain(figure, run, any(run.info.deciding_metric in panel.metrics.values() for panel in drawn))
    if path is not None:
        figure.savefig(path)
    return figure


def _chosen(run: Run, metrics: Sequence[str] | None) -> list[str]:
    measured = run.history.metric_names()
    if metrics is None:
        chosen = default_metrics(run)
    else:
        chosen = [name if name in measured else name.removeprefix("eval_") for name in dict.fromkeys(metrics)]
    for name in chosen:
        if name not in measured:
            near = difflib.get_close_matches(name, measured, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{name!r} was not measured in this run.{meant} There are: {', '.join(measured)}.")
    if not chosen:
        raise ValueError(f"nothing to draw: {run.folder} has no evaluation with a primary metric.")
    return chosen


def _draw(axes: Any, run: Run, panel: Panel, lines: Sequence[str]) -> None:
    """Draw one panel."""
    known = {one.primary_metric for one in run.info.evaluators} | {run.info.deciding_metric}
    # Sizes of one metric share its direction, and only one of them may be somebody's primary.
    lead = next((name for name in panel.metrics.values() if name in known), next(iter(panel.metrics.values())))
    greater = run.greater_is_better(lead)
    told = []
    for place, (label, metric) in enumerate(panel.metrics.items()):
        values = [(step, value if math.isfinite(value) else math.nan) for step, value in run.history.values(metric)]
        best = run.best_of(metric) if metric in known else run.history.best(metric, greater)
        star = " *" if metric == run.info.deciding_metric else ""
        found = None if best is None else (best.step, best.metrics[metric])
        told.append(_line(axes, values, found, f"{label}{star}" if label else "", place))
    which = "best" if greater else "best (lowest)"
    if len(told) > 1:
        second = f"{which} of each size below"
    else:
        second = told[0].replace("best", which)
        lines = [*lines[:-1], lines[-1] + star]
    axes.set_title("\n".join([*lines, second]), fontsize=_SIZE, loc="left", parse_math=False, linespacing=1.15)
    _dress(axes, run)
    if not any(math.isfinite(value) for name in panel.metrics.values() for _, value in run.history.values(name)):
        axes.set_yticks([])
    if len(told) > 1:
        legend = axes.legend(fontsize=_SIZE - 1.5, framealpha=0.85, handlelength=2.8, borderpad=0.3, labelspacing=0.25)
        legend.get_frame().set_linewidth(0.4)


def _line(
    axes: Any, values: Sequence[tuple[int, float]], best: tuple[int, float] | None, label: str, place: int
) -> str:
    """Draw the values of one metric, its baseline and its best; what is to be said of the best."""
    colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
    steps, heights = [step for step, _ in values], [value for _, value in values]
    spec = value_format(heights)
    text = "no finite value"
    if best is not None:
        text = f"best {best[1]:{spec}} at step {best[0]}"
    elif steps[0] == 0 and math.isfinite(heights[0]):
        text = f"before training {heights[0]:{spec}}"
    axes.plot(
        steps,
        heights,
        color=colour,
        linestyle=_DASHES[place % len(_DASHES)],
        linewidth=1.3,
        marker=marker,
        markersize=3.2,
        # Many markers would hide the line; the first and the best are always there.
        markevery=max(1, len(values) // 16),
        label=f"{label}: {text.removeprefix('best ')}" if label else None,
        zorder=3,
    )
    lonely = [i for i in range(len(values)) if not _finite_at(heights, i - 1) and not _finite_at(heights, i + 1)]
    axes.plot([steps[i] for i in lonely], [heights[i] for i in lonely], marker, color=colour, markersize=3.2, zorder=3)
    if steps[0] == 0 and math.isfinite(heights[0]):
        axes.axhline(heights[0], color=colour if label else _GREY, linestyle=(0, (4, 3)), linewidth=0.7, zorder=1)
    if best is not None:
        star = {"color": colour, "markersize": 10, "markeredgecolor": "black", "markeredgewidth": 0.6}
        axes.plot(*best, "*", **star, zorder=4, clip_on=False)
    return text


def _finite_at(values: Sequence[float], place: int) -> bool:
    return 0 <= place < len(values) and math.isfinite(values[place])


def _dress(axes: Any, run: Run) -> None:
    """Axes, grid and ticks, alike in all panels."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    steps = [record.step for record in run.history]
    first, last = min(steps), max(steps)
    margin = max(last - first, 1) * 0.04
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if first == last:
        axes.set_xticks([first])
    if last >= 10_000:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value else "0"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 4))
    axes.yaxis.get_offset_text().set_fontsize(_SIZE - 1)
    axes.tick_params(labelsize=_SIZE - 1, length=2.5, width=0.6)
    axes.set_xlabel("step", fontsize=_SIZE - 1, labelpad=1.5)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_linewidth(0.6)
    if run.best is not None:
        axes.axvline(run.best.step, color=_GREY, linestyle=(0, (1, 2)), linewidth=0.9, zorder=1)


def _explain(figure: Figure, run: Run, shows_deciding: bool) -> None:
    """Say below the panels what the signs mean."""
    from matplotlib.lines import Line2D

    signs = [Line2D([], [], marker="*", color="white", markeredgecolor="black", markersize=9, label="best of a line")]
    if run.history.records[0].step == 0:
        signs.append(
            Line2D([], [], color=_GREY, linestyle=(0, (4, 3)), linewidth=0.8, label="dashed: before training")
        )
    if run.best is not None:
        text = f"dotted: best {'by *' if shows_deciding else 'of the run'} (step {run.best.step})"
        signs.append(Line2D([], [], color=_GREY, linestyle=(0, (1, 2)), linewidth=1.0, label=text))
    width, height = figure.get_size_inches()
    figure.legend(
        handles=signs,
        loc="lower left",
        bbox_to_anchor=(_LEFT / width, 0.06 / height),
        ncols=3,
        fontsize=_SIZE - 1,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        columnspacing=1.2,
    )
