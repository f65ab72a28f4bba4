"""How retrieval grows with the corpus: time, memory, and the exponents that fit."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sentence_transformers.sentence_transformer import evaluation as st

from st_eval_callbacks import evaluators as ours
from st_eval_callbacks.encoding.shared import session

from . import measure
from .compare import OURS, PEER, Settings
from .report import Section, Verdict, mib_text, reached_text, seconds_text
from .retrieval import evaluator_arguments, stub

NAME = "growth of retrieval"
PICTURE = "growth.png"
_LEAN = f"{OURS}, documents not kept"
_MOST_EXPONENT = 1.05
_SIZES = {
    "full": (1_000, (10_000, 30_000, 100_000, 300_000, 1_000_000)),
    "quick": (100, (5_000, 10_000, 20_000, 40_000)),
    "smallest": (5, (100, 200)),
}


class Point(NamedTuple):
    """What one contender took at one size."""

    seconds: float
    peak_mib: float | None


def points_at(num_queries: int, num_documents: int) -> dict[str, Point]:
    """Build the data and run each contender once; the shorter ones three times, of which the median counts."""
    arguments = evaluator_arguments(num_queries, num_documents)
    model = stub(num_queries, num_documents, "cosine")
    our_evaluator = ours.InformationRetrievalEvaluator(**arguments)
    st_evaluator = st.InformationRetrievalEvaluator(**arguments)

    def lean() -> Any:
        with session(cache_bytes=0):
            return our_evaluator(model)

    contenders: dict[str, Callable[[], Any]] = {
        OURS: lambda: our_evaluator(model),
        _LEAN: lean,
        PEER: lambda: st_evaluator(model),
    }
    found = {}
    with measure.inputs_not_collected():
        for name, contender in contenders.items():
            first = measure.with_peak(contender)
            seconds = [first.timed.seconds]
            while len(seconds) < 3 and sum(seconds) < 5:
                seconds.append(measure.timed(contender).seconds)
            found[name] = Point(statistics.median(seconds), first.peak_mib)
    return found


def run(settings: Settings) -> list[Section]:
    """The table, and the plot beside it."""
    num_queries, sizes = _SIZES[settings.size]
    measured = {}
    points_at(5, 200)  # imports, and the choice of a kernel
    for num_documents in sizes:
        settings.say(f"{NAME}: {num_documents:,} documents")
        work = _at(num_queries, num_documents)
        measured[num_documents] = measure.in_child(work) if measure.can_measure_memory() else work()
    contenders = list(measured[sizes[0]])
    section = Section(
        f"Growth: {num_queries:,} queries, cosine, k 100",
        ("documents", *(f"{name}, {what}" for name in contenders for what in ("time", "MiB"))),
    )
    for num_documents, points in measured.items():
        cells = [cell for one in points.values() for cell in (seconds_text(one.seconds), mib_text(one.peak_mib))]
        section.rows.append((f"{num_documents:,}", *cells))
    exponents = {name: _exponents({size: points[name] for size, points in measured.items()}) for name in contenders}
    section.rows.append(("exponent", *(f"{value:.2f}" for name in contenders for value in exponents[name])))
    exponent = exponents[OURS][0]
    reached = exponent <= _MOST_EXPONENT if settings.size == "full" else None
    section.verdicts = [Verdict(NAME, f"exponent at most {_MOST_EXPONENT}", f"{exponent:.3f}", reached)]
    section.notes = [
        f"Time of ours grows with the number of documents to the power of {exponent:.3f}; bar: at most "
        f"{_MOST_EXPONENT}; reached: {reached_text(section.verdicts)}.",
        "Each size runs in a forked child with one thread. An exponent is the slope of a line through the logarithms; "
        "memory is that above the inputs.",
    ]
    if settings.size != "smallest":
        section.picture = PICTURE
        plot(measured, num_queries, Path(settings.folder) / PICTURE)
    return [section]


def _at(num_queries: int, num_documents: int) -> Callable[[], dict[str, Point]]:
    return lambda: points_at(num_queries, num_documents)


def _exponents(points: dict[int, Point]) -> tuple[float, float]:
    peaks = [point.peak_mib for point in points.values()]
    memory = measure.growth_exponent(points, [peak for peak in peaks if peak]) if all(peaks) else math.nan
    return measure.growth_exponent(points, [point.seconds for point in points.values()]), memory


def plot(measured: dict[int, dict[str, Point]], num_queries: int, path: Path) -> None:
    """Time and memory by the number of documents, both axes in logarithms; readable in black and white."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    styles = {PEER: ("s", "--", "0.35"), OURS: ("o", "-", "0.0"), _LEAN: ("^", ":", "0.0")}
    figure = Figure(figsize=(8, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    sizes = list(measured)
    for axes, what, unit in zip(
        figure.subplots(1, 2), ("seconds", "peak_mib"), ("seconds", "MiB above the inputs"), strict=True
    ):
        for name in measured[sizes[0]]:
            values = [getattr(points[name], what) for points in measured.values()]
            if all(values):
                marker, line, gray = styles[name]
                axes.plot(
                    sizes, values, marker=marker, linestyle=line, color=gray, label=name, markerfacecolor="white"
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sizes, [f"{size / 1e6:g}M" if size >= 10**6 else f"{size / 1e3:g}k" for size in sizes])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("documents")
        axes.set_ylabel(unit)
        axes.grid(visible=True, which="major", color="0.85")
        axes.legend(frameon=False)
    figure.suptitle(f"Retrieval, {num_queries:,} queries: growth with the corpus", fontsize=11)
    figure.savefig(path)
