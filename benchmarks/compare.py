"""Rows that compare one of ours with its peers, and the table they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from . import measure
from .measure import ChildFailed, Contender, Isolated, Timings
from .report import Section, Verdict, mib_text, reached_text, seconds_text

PEER = "ST"
OURS = "ours"

HEADER = (
    "row",
    "size",
    "against",
    "its time",
    "ours",
    "times as fast (min-max)",
    "in user time",
    "peak MiB, it -> ours",
    "largest difference",
    "rounds",
    "bar",
    "reached",
)

# What a terminal has room for.
_BRIEF = (0, 1, 2, 3, 4, 5, 7, 11)

NOTE = (
    'Times are medians of interleaved rounds; "times as fast" is the median of the ratios of the rounds. Where a '
    "round takes long there is one, in forked children of the same process with one thread; what takes seconds runs "
    "twice there and the second run counts, as the first of the rounds elsewhere does not. Peak memory is that above "
    "the inputs, of a first run in a child; the embeddings of a stub are inputs, copies of them are not."
)


@dataclass(frozen=True)
class Settings:
    """How a run of the benchmark measures.

    Attributes:
        size: "full", "quick" or "smallest".
        rounds: Most rounds a row.
        threads: Threads of torch.
        say: Told what is being measured.
        folder: Where plots go.
    """

    size: str = "full"
    rounds: int = 5
    threads: int = 1
    say: Callable[[str], None] = lambda text: None
    folder: str = "."

    @property
    def budget(self) -> float:
        """Seconds that the rounds of a row may take together; one round is always run."""
        return {"full": 45.0, "quick": 2.5, "smallest": 0.1}[self.size]


@dataclass(frozen=True)
class Bars:
    """What a row is to reach at full size.

    Attributes:
        ratio: At least so many times as fast as the peer.
        peak_mib: At most so much memory above the inputs.
    """

    ratio: float | None = None
    peak_mib: float | None = None


@dataclass
class Case:
    """What is built for a row.

    Attributes:
        size: The size in words.
        ours: Ours, called as the peer is.
        peers: The others by name; `PEER` comes first and is the one that bars are about.
        variants: Ours under other conditions, each compared with the peer.
        notes: Sentences for below the table.
        detail: More to say about the results, which it gets by contender.
    """

    size: str
    ours: Contender
    peers: dict[str, Contender]
    variants: dict[str, Contender] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    detail: Callable[[Mapping[str, Any]], str] | None = None


@dataclass(frozen=True)
class Row:
    """One row of the benchmark.

    Attributes:
        name: What is measured.
        build: Makes the case from sizes; what it makes lives as long as the case.
        full: Sizes of the full run.
        quick: Sizes of the quick one.
        smallest: Sizes that take milliseconds.
        bars: What is to be reached at full size.
    """

    name: str
    build: Callable[..., Case]
    full: Mapping[str, Any]
    quick: Mapping[str, Any]
    smallest: Mapping[str, Any]
    bars: Bars = Bars()

    def case(self, size: str) -> Case:
        sizes: Mapping[str, Any] = getattr(self, size)
        return self.build(**sizes)


def compare(title: str, rows: Sequence[Row], settings: Settings) -> Section:
    """Measure rows one after another."""
    section = Section(title, HEADER, brief=_BRIEF)
    for row in rows:
        settings.say(f"{title}: {row.name}")
        warm_up(row)
        case = row.case(settings.size)
        with measure.inputs_not_collected():
            add_row(section, row, case, settings)
        del case
    section.notes = [*dict.fromkeys([*section.notes, NOTE])]
    return section


def warm_up(row: Row) -> None:
    """Let all that happens once in a process happen: imports, and the choice of a kernel."""
    case = row.case("smallest")
    for contender in (case.ours, *case.peers.values(), *case.variants.values()):
        contender()


def add_row(section: Section, row: Row, case: Case, settings: Settings) -> None:
    """Measure a case and put its lines into the table."""
    ours_by_name = {OURS: case.ours, **case.variants}
    contenders = {**case.peers, **ours_by_name}
    timings, peaks, failures = run(contenders, settings)
    for name, reason in failures.items():
        section.notes.append(f"{row.name}, {case.size}: {name} did not finish: {reason.strip().splitlines()[-1]}.")
    lines = [(peer, OURS) for peer in case.peers] + [(PEER, variant) for variant in case.variants]
    for peer, ours in lines:
        if peer not in timings.seconds or ours not in timings.seconds:
            continue
        ratio = timings.ratio(peer, ours)
        user = timings.ratio(peer, ours, user=True)
        difference = measure.largest_difference(timings.results[peer], timings.results[ours])
        bars = row.bars if (peer, ours) == (PEER, OURS) else Bars()
        name = row.name if ours == OURS else f"{row.name}, {ours}"
        verdicts = _verdicts(f"{name}, {case.size}", bars, ratio.median, peaks.get(ours), settings.size == "full")
        section.verdicts += verdicts
        section.rows.append(
            (
                name,
                case.size,
                peer,
                seconds_text(timings.median(peer)),
                seconds_text(timings.median(ours)),
                f"{ratio.median:.3g} ({ratio.lowest:.3g}-{ratio.highest:.3g})",
                f"{user.median:.3g}",
                f"{mib_text(peaks.get(peer))} -> {mib_text(peaks.get(ours))}",
                "-" if difference is None else f"{difference[0]:.1e} in {difference[1]}",
                str(timings.num_rounds),
                "; ".join(verdict.bar for verdict in verdicts) or "-",
                reached_text(verdicts),
            )
        )
    if case.detail is not None and not failures:
        section.notes.append(f"{row.name}: {case.detail(timings.results)}")
    section.notes += case.notes


def run(
    contenders: Mapping[str, Contender], settings: Settings
) -> tuple[Timings, dict[str, float | None], dict[str, str]]:
    """Measure memory in forked children, then time in rounds as many as the budget allows.

    Returns:
        Timings, peak MiB by contender, and why a contender did not finish.
    """
    alone: dict[str, Isolated] = {}
    failures: dict[str, str] = {}
    if measure.can_measure_memory():
        for name, contender in contenders.items():
            try:
                alone[name] = measure.isolated(contender, settings.budget / 4)
            except ChildFailed as error:
                failures[name] = str(error)
        timings = Timings(isolated=True)
        for name, one in alone.items():
            timings.add(name, one.usual)
        # Where one round fills the budget, the children's is that round; their one thread must be what is asked for.
        seconds = sum(one.timed.seconds for one in alone.values())
        if 2 * seconds > settings.budget and settings.threads == 1:
            return timings, {name: one.peak_mib for name, one in alone.items()}, failures
    else:
        first = measure.interleaved(contenders, 1, warm_up=False)
        seconds = sum(map(first.median, contenders))
    contenders = {name: contender for name, contender in contenders.items() if name not in failures}
    rounds = measure.rounds_within(settings.budget, seconds, settings.rounds)
    timings = measure.interleaved(contenders, rounds, warm_up=rounds > 1)
    return timings, {name: one.peak_mib for name, one in alone.items()}, failures


def _verdicts(row: str, bars: Bars, ratio: float, peak_mib: float | None, judge: bool) -> list[Verdict]:
    verdicts = []
    if bars.ratio is not None:
        verdicts.append(
            Verdict(
                row, f"at least {bars.ratio:g} times", f"{ratio:.3g} times", ratio >= bars.ratio if judge else None
            )
        )
    if bars.peak_mib is not None:
        measured = judge and peak_mib is not None
        reached = peak_mib < bars.peak_mib if measured and peak_mib is not None else None
        verdicts.append(Verdict(row, f"under {bars.peak_mib:g} MiB", f"{mib_text(peak_mib)} MiB", reached))
    return verdicts


def use_threads(threads: int) -> None:
    """Let torch, and faiss where it is, use so many threads."""
    torch.set_num_threads(threads)
    try:
        import faiss
    except ImportError:
        return
    faiss.omp_set_num_threads(threads)
