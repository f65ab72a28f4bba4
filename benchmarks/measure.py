"""Seconds, memory and differences of functions that are measured beside each other."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import pickle
import re
import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

Contender = Callable[[], Any]

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_MIB = 1024  # /proc counts in KiB


class Spread(NamedTuple):
    """The median of a value over the rounds, and how far the rounds lie apart."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Timings:
    """What rounds of several contenders took.

    Attributes:
        seconds: Wall time by contender, one value a round.
        user_seconds: User CPU time of all threads, likewise.
        results: What each contender returned last.
        isolated: Whether the only round ran in forked children, which measured the memory as well.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    user_seconds: dict[str, list[float]] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    isolated: bool = False

    @property
    def num_rounds(self) -> int:
        return min(map(len, self.seconds.values()), default=0)

    def add(self, name: str, run: Timed) -> None:
        self.seconds.setdefault(name, []).append(run.seconds)
        self.user_seconds.setdefault(name, []).append(run.user_seconds)
        self.results[name] = run.result

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, slower: str, faster: str, *, user: bool = False) -> Spread:
        """How many times longer one takes than another: the median of the rounds' ratios, and their range."""
        table = self.user_seconds if user else self.seconds
        pairs = zip(table[slower], table[faster], strict=True)
        return Spread.of([one / other if other > 0 else math.nan for one, other in pairs])


class Timed(NamedTuple):
    """One run of a contender."""

    seconds: float
    user_seconds: float
    result: Any


class Isolated(NamedTuple):
    """One run in a process of its own.

    Attributes:
        timed: Seconds and result.
        peak_mib: Most anonymous memory above what was there before the run, in MiB; None where it can't be measured.
        again: A second run, where the first took little time: nothing happens in it that happens once in a process.
    """

    timed: Timed
    peak_mib: float | None
    again: Timed | None = None

    @property
    def usual(self) -> Timed:
        """What a run takes that is not the first."""
        return self.again or self.timed


class ChildFailed(RuntimeError):
    """A forked child was killed or raised."""


@contextmanager
def inputs_not_collected() -> Iterator[None]:
    """Spare the garbage collector all that is there already: millions of inputs would slow every run down."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def timed(contender: Contender) -> Timed:
    """Run once, with garbage of earlier runs out of the way."""
    gc.collect()
    user = _user_seconds()
    start = time.perf_counter()
    result = contender()
    seconds = time.perf_counter() - start
    return Timed(seconds, _user_seconds() - user, result)


def interleaved(contenders: Mapping[str, Contender], rounds: int, *, warm_up: bool = True) -> Timings:
    """Run contenders in turns, so that whatever else the machine does meets all of them.

    Args:
        contenders: Functions by name.
        rounds: How often each runs.
        warm_up: Whether each runs once more before, uncounted.
    """
    timings = Timings()
    for number in range(-1 if warm_up else 0, rounds):
        for name, contender in contenders.items():
            run = timed(contender)
            if number >= 0:
                timings.add(name, run)
    return timings


def rounds_within(budget: float, seconds: float, most: int) -> int:
    """How many rounds fit a budget of seconds when one takes so many; at least 1."""
    return max(1, min(most, int(budget / max(seconds, 1e-9))))


def can_measure_memory() -> bool:
    """Whether the peak of a run can be told: a fork, and a kernel that resets the peak when asked."""
    return hasattr(os, "fork") and _STATUS.exists() and os.access(_CLEAR_REFS, os.W_OK)


def in_child(work: Callable[[], Any]) -> Any:
    """Run in a forked child, with one thread, and return the result.

    A thread pool does not survive a fork, so more threads would wait for each other for ever.

    Raises:
        ChildFailed: When the child was killed, as for want of memory, or raised.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            torch.set_num_threads(1)
            try:
                answer = (True, work())
            except BaseException:
                answer = (False, traceback.format_exc())
            with os.fdopen(writer, "wb") as stream:
                pickle.dump(answer, stream)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer_bytes = stream.read()
    _, status = os.waitpid(pid, 0)
    if not answer_bytes or status != 0:
        raise ChildFailed(f"killed (status {status}), most likely for want of memory")
    done, answer = pickle.loads(answer_bytes)
    if not done:
        raise ChildFailed(answer)
    return answer


def with_peak(contender: Contender) -> Isolated:
    """Run once and tell the peak of anonymous memory above that before the run; meant for a forked child.

    Pages of libraries that the run is the first to touch don't count, nor does memory that was let go before.
    """
    if not can_measure_memory():
        return Isolated(timed(contender), None)
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    _CLEAR_REFS.write_text("5")
    before = _memory("RssAnon")
    run = timed(contender)
    # Pages of files are only ever added here, so this is a lower bound that their few MiB separate from the peak.
    peak = _memory("VmHWM") - _memory("RssFile") - before
    return Isolated(run, max(peak, 0.0) / _MIB)


def isolated(contender: Contender, again_below: float = 0.0) -> Isolated:
    """One run in a forked child, or two.

    Args:
        contender: What to run.
        again_below: Seconds; a run that took less is followed by a second one.

    Raises:
        ChildFailed: When the child was killed or raised.
    """

    def work() -> Isolated:
        first = with_peak(contender)
        return first._replace(again=timed(contender)) if first.timed.seconds < again_below else first

    result: Isolated = in_child(work)
    return result


def _user_seconds() -> float:
    """CPU time of all threads outside the kernel; the fallback ticks in hundredths of a second."""
    return os.times().user if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_utime


def _memory(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.M)
    return float(found[1]) if found else math.nan


def largest_difference(left: Any, right: Any) -> tuple[float, str] | None:
    """Largest absolute difference of the values that two results share, and its key; None when they share none.

    Two values that are both undefined are equal; one that is undefined alone differs infinitely.
    """
    if not isinstance(left, Mapping) or not isinstance(right, Mapping):
        return None
    differences = [(_difference(float(left[key]), float(right[key])), key) for key in left if key in right]
    return max(differences, default=None)


def _difference(one: float, other: float) -> float:
    if math.isnan(one) and math.isnan(other):
        return 0.0
    return math.inf if math.isnan(one) or math.isnan(other) else abs(one - other)


def growth_exponent(sizes: Iterable[float], values: Iterable[float]) -> float:
    """The exponent of the power law that fits best: the slope in logarithms by least squares."""
    x, y = ([math.log(value) for value in values] for values in (sizes, values))
    slope, _ = statistics.linear_regression(x, y)
    return slope
