"""When an evaluator is due. Numbers only: no clock, no trainer, no side effects."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import TypeAlias

_UNITS = {
    "step": "steps",
    "steps": "steps",
    "ba": "steps",
    "epoch": "epochs",
    "epochs": "epochs",
    "ep": "epochs",
    "%": "share",
    "dur": "share",
}
_TIMES = ("", "sec", "second", "m", "min", "minute", "h", "hr", "hour", "d", "day")
_PATTERN = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(%|[A-Za-z]+)\s*")
# The Trainer counts epochs in floats; one optimizer step is never this small a part of an epoch.
_EPOCH_TOLERANCE = Fraction(1, 10**7)

IntervalLike: TypeAlias = "Interval | int | float | str"


@dataclass(frozen=True)
class Progress:
    """Where training stands.

    Attributes:
        step: Optimizer steps done (`state.global_step`), >= 0.
        epoch: Passes over the training data done (`state.epoch`), >= 0.
        max_steps: Optimizer steps of the whole run, >= 1.
    """

    step: int
    epoch: float
    max_steps: int


@dataclass(frozen=True)
class Interval:
    """A distance in training: optimizer steps, epochs, or a share of all steps.

    An interval is a value: it compares, hashes and prints back as what it was parsed from.

    Attributes:
        value: The distance, > 0, kept exact (a share lies in (0, 1]).
        unit: "steps", "epochs" or "share".
    """

    value: Fraction
    unit: str

    @classmethod
    def parse(cls, given: IntervalLike) -> Interval:
        """Read an interval.

        Args:
            given: An int is optimizer steps; a float below 1 is a share of all steps, as in `TrainingArguments`; a
                string is a number and a unit: "100 steps", "0.25 epochs", "10%", or short "100ba", "2ep", "0.1dur".

        Returns:
            The interval.

        Raises:
            ValueError: When the number or the unit is not one of these.
            TypeError: When it is no number, string or interval.

        Examples:
            >>> str(Interval.parse("0.25 epochs")), str(Interval.parse(100)), str(Interval.parse("0.1dur"))
            ('0.25 epochs', '100 steps', '10%')
            >>> Interval.parse(str(Interval.parse("2ep"))) == Interval.parse("2 epochs")
            True
        """
        if isinstance(given, Interval):
            return given
        if isinstance(given, bool) or not isinstance(given, (int, float, str)):
            raise TypeError(f"an interval is an int, a float or a string, not {given!r} ({type(given).__name__}).")
        if isinstance(given, str):
            return cls._parse_text(given)
        if isinstance(given, float) and not math.isfinite(given):
            raise ValueError(f"the interval {given!r} is not a finite number.")
        value = Fraction(str(given))
        if isinstance(given, float) and 0 < value < 1:
            return cls._checked(value, "share", given)
        if value.denominator != 1:
            raise ValueError(
                f"the interval {given!r} is neither whole steps nor a share below 1: "
                f'write "{given:g} epochs" or {round(given)} (steps).'
            )
        return cls._checked(value, "steps", given)

    @classmethod
    def _parse_text(cls, text: str) -> Interval:
        match = _PATTERN.fullmatch(text)
        allowed = '"100 steps" (100ba), "0.25 epochs" (0.25ep), "10%" (0.1dur)'
        if match is None:
            hint = f' Did you mean "{text.strip()} steps"?' if re.fullmatch(r"\s*[0-9]+\s*", text) else ""
            raise ValueError(f"{text!r} is not an interval: write {allowed}.{hint}")
        number, word = match[1], match[2].lower()
        if word not in _UNITS:
            near = difflib.get_close_matches(word, _UNITS, n=1)
            why = " (clocks of processes disagree)" if word.rstrip("s") in _TIMES else ""
            hint = f' Did you mean "{number} {_UNITS[near[0]]}"?' if near and _UNITS[near[0]] != "share" else ""
            raise ValueError(f"{match[2]!r} in the interval {text!r} is not a unit{why}: write {allowed}.{hint}")
        value = Fraction(number) / (100 if word == "%" else 1)
        return cls._checked(value, _UNITS[word], text)

    @classmethod
    def _checked(cls, value: Fraction, unit: str, given: object) -> Interval:
        if value <= 0:
            raise ValueError(f"the interval {given!r} must be above 0.")
        if unit == "steps" and value.denominator != 1:
            raise ValueError(f"the interval {given!r} must be a whole number of steps.")
        if unit == "share" and value > 1:
            raise ValueError(f"the interval {given!r} is more than all of training (100%).")
        return cls(value, unit)

    def __str__(self) -> str:
        """Print back as text that `parse` reads as the same interval."""
        if self.unit == "share":
            return f"{_decimal(self.value * 100)}%"
        return f"{_decimal(self.value)} {self.unit}"

    def count(self, progress: Progress) -> int:
        """How many whole intervals lie between the start of training and `progress`.

        Args:
            progress: Where training stands.

        Returns:
            The number of boundaries reached, >= 0.

        Examples:
            >>> [Interval.parse("40%").count(Progress(step, 0.0, 10)) for step in (3, 4, 7, 8, 10)]
            [0, 1, 1, 2, 2]
        """
        if self.unit == "epochs":
            return int((Fraction(progress.epoch) + _EPOCH_TOLERANCE) / self.value)
        per_boundary = self.value if self.unit == "steps" else self.value * progress.max_steps
        return int(progress.step / per_boundary)

    def crossed(self, previous: Progress, current: Progress) -> bool:
        """Whether a boundary lies after `previous` and not after `current`."""
        return self.count(current) > self.count(previous)


def _decimal(value: Fraction) -> str:
    with localcontext() as context:
        context.prec = 60
        return format((Decimal(value.numerator) / Decimal(value.denominator)).normalize(), "f")


@dataclass(frozen=True)
class Schedule:
    """When one evaluator runs.

    Attributes:
        every: The distance between two runs, or None for no regular runs.
        at: Single points of training, each as far from the start as the interval says.
        at_start: Whether to run once before the first step.
        at_end: Whether to run after the last step (once, also when an interval ends there).
    """

    every: Interval | None = None
    at: tuple[Interval, ...] = field(default=())
    at_start: bool = False
    at_end: bool = True

    @classmethod
    def parse(
        cls,
        every: IntervalLike | None = None,
        at: IntervalLike | Iterable[IntervalLike] = (),
        at_start: bool = False,
        at_end: bool = True,
    ) -> Schedule:
        """Read a schedule from what a person writes; see `Interval.parse` for the forms of an interval.

        Raises:
            ValueError: When an interval cannot be read.
            TypeError: When an interval is no number, string or interval.
        """
        points: Iterable[IntervalLike] = [at] if isinstance(at, (str, int, float, Interval)) else at
        return cls(
            every=None if every is None else Interval.parse(every),
            at=tuple(Interval.parse(point) for point in points),
            at_start=at_start,
            at_end=at_end,
        )

    def due(self, previous: Progress, current: Progress, *, is_last: bool = False) -> bool:
        """Whether a boundary was crossed between two moments of training.

        Crossing, not equality: a boundary between two steps fires at the later one, so it fires exactly once whatever
        the gradient accumulation, the length of the data, or the step at which a run was resumed.

        Args:
            previous: The step before.
            current: This step.
            is_last: Whether training ends with this step.

        Returns:
            True when the evaluator is due at `current`.

        Examples:
            >>> schedule = Schedule.parse(every="3 steps")
            >>> steps = [Progress(step, step / 4, 8) for step in range(9)]
            >>> [n.step for p, n in zip(steps, steps[1:]) if schedule.due(p, n, is_last=n.step == 8)]
            [3, 6, 8]
        """
        if is_last and self.at_end:
            return True
        if self.every is not None and self.every.crossed(previous, current):
            return True
        return any(point.count(previous) == 0 < point.count(current) for point in self.at)

    def never_fires(self, max_steps: int, steps_per_epoch: float) -> bool:
        """Whether its interval and points all lie beyond the end of training.

        Args:
            max_steps: Optimizer steps of the whole run.
            steps_per_epoch: Optimizer steps of one pass over the data; infinite when unknown.

        Returns:
            True when there is an interval or a point, and none is reached.
        """
        points = [*([] if self.every is None else [self.every]), *self.at]
        if not math.isfinite(steps_per_epoch):
            if any(point.unit == "epochs" for point in points):
                return False
            steps_per_epoch = max_steps
        end = Progress(max_steps, max_steps / steps_per_epoch, max_steps)
        return bool(points) and not any(point.count(end) for point in points)

    def __str__(self) -> str:
        """What a person would say, for messages."""
        parts = [f"every {self.every}"] if self.every else []
        parts += [f"at {point}" for point in self.at]
        parts += ["at start"] * self.at_start + ["at end"] * self.at_end
        return ", ".join(parts)
