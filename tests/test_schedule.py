"""Intervals are values, and a boundary fires once."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_eval_callbacks.schedule import Interval, Progress, Schedule


def fired(schedule: Schedule, steps: range, *, max_steps: int, steps_per_epoch: float) -> list[int]:
    """Steps at which the schedule is due when training does the given steps."""
    moments = [Progress(step, step / steps_per_epoch, max_steps) for step in steps]
    return [
        now.step
        for before, now in zip(moments, moments[1:], strict=False)
        if schedule.due(before, now, is_last=now.step == max_steps)
    ]


@pytest.mark.parametrize(
    ("given_form", "text"),
    [
        (100, "100 steps"),
        (100.0, "100 steps"),
        (0.25, "25%"),
        ("100 steps", "100 steps"),
        ("100ba", "100 steps"),
        ("1 step", "1 steps"),
        ("0.25 epochs", "0.25 epochs"),
        ("2ep", "2 epochs"),
        ("2 EPOCHS", "2 epochs"),
        ("10%", "10%"),
        ("0.1dur", "10%"),
        ("100%", "100%"),
        (" .5 epochs ", "0.5 epochs"),
        ("1e-3 epochs", "0.001 epochs"),
    ],
)
def test_every_form_of_an_interval_prints_as_one_text_that_reads_back(given_form: object, text: str) -> None:
    interval = Interval.parse(given_form)
    assert str(interval) == text
    assert Interval.parse(str(interval)) == interval
    assert hash(Interval.parse(text)) == hash(interval)


@given(st.decimals(min_value="0.0001", max_value=1000, allow_nan=False, places=6).filter(lambda value: value > 0))
def test_any_decimal_number_of_epochs_reads_back_exactly(number: object) -> None:
    interval = Interval.parse(f"{number} epochs")
    assert Interval.parse(str(interval)) == interval == Interval(Fraction(str(number)), "epochs")


@pytest.mark.parametrize(
    ("given_form", "said"),
    [
        ("100", 'Did you mean "100 steps"'),
        ("100 stepz", 'Did you mean "100 steps"'),
        ("2 epoch s", "is not an interval"),
        ("5 minutes", "is not a unit .clocks of processes disagree"),
        (0, "above 0"),
        (-3, "above 0"),
        ("0 epochs", "above 0"),
        (1.5, "1.5 epochs"),
        ("1.5 steps", "whole number"),
        ("150%", "more than all"),
        (float("nan"), "finite"),
        ("", "is not an interval"),
    ],
)
def test_a_wrong_interval_says_what_was_given_and_what_is_allowed(given_form: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Interval.parse(given_form)


@pytest.mark.parametrize("given_form", [True, None, [1], object()])
def test_what_is_no_number_or_text_is_no_interval(given_form: object) -> None:
    with pytest.raises(TypeError, match="an interval is"):
        Interval.parse(given_form)


@pytest.mark.parametrize(
    ("every", "max_steps", "steps_per_epoch", "steps"),
    [
        ("3 steps", 8, 4, [3, 6, 8]),
        ("4 steps", 8, 4, [4, 8]),
        ("0.5 epochs", 8, 4, [2, 4, 6, 8]),
        ("0.25 epochs", 6, 6, [2, 3, 5, 6]),
        ("1 epochs", 8, 3, [3, 6, 8]),
        ("30%", 10, 5, [3, 6, 9, 10]),
        ("25%", 10, 5, [3, 5, 8, 10]),
        ("0.1 epochs", 4, 2, [1, 2, 3, 4]),
    ],
)
def test_an_interval_fires_where_a_boundary_was_crossed_and_at_the_end(
    every: str, max_steps: int, steps_per_epoch: int, steps: list[int]
) -> None:
    schedule = Schedule.parse(every)
    assert fired(schedule, range(max_steps + 1), max_steps=max_steps, steps_per_epoch=steps_per_epoch) == steps


@given(
    every=st.sampled_from(["3 steps", "7 steps", "0.3 epochs", "1 epochs", "13%", "0.01 epochs"]),
    max_steps=st.integers(1, 40),
    steps_per_epoch=st.integers(1, 12),
    data=st.data(),
)
def test_a_resumed_run_fires_where_an_uninterrupted_one_does(
    every: str, max_steps: int, steps_per_epoch: int, data: st.DataObject
) -> None:
    schedule = Schedule.parse(every, at=["50%"])
    cut = data.draw(st.integers(0, max_steps))
    whole = fired(schedule, range(max_steps + 1), max_steps=max_steps, steps_per_epoch=steps_per_epoch)
    first = fired(schedule, range(cut + 1), max_steps=max_steps, steps_per_epoch=steps_per_epoch)
    second = fired(schedule, range(cut, max_steps + 1), max_steps=max_steps, steps_per_epoch=steps_per_epoch)
    assert first + second == whole


@given(epochs=st.integers(1, 30), steps_per_epoch=st.integers(1, 977))
def test_float_epochs_neither_lose_nor_double_a_boundary(epochs: int, steps_per_epoch: int) -> None:
    schedule = Schedule.parse("1 epochs", at_end=False)
    total = epochs * steps_per_epoch
    moments = [
        Progress(s, e + (i + 1) / steps_per_epoch, total)
        for e in range(epochs)
        for i, s in enumerate(range(e * steps_per_epoch + 1, (e + 1) * steps_per_epoch + 1))
    ]
    moments.insert(0, Progress(0, 0.0, total))
    due = [now.step for before, now in zip(moments, moments[1:], strict=False) if schedule.due(before, now)]
    assert due == [steps_per_epoch * (e + 1) for e in range(epochs)]


def test_single_points_fire_once_each() -> None:
    schedule = Schedule.parse(at=[2, "1.5 epochs", "90%"], at_end=False)
    assert fired(schedule, range(11), max_steps=10, steps_per_epoch=4) == [2, 6, 9]


def test_a_schedule_that_lies_beyond_the_end_never_fires() -> None:
    assert Schedule.parse("9 steps").never_fires(8, 4)
    assert Schedule.parse("3 epochs").never_fires(8, 4)
    assert not Schedule.parse("3 epochs").never_fires(8, float("inf"))
    assert not Schedule.parse("8 steps").never_fires(8, 4)
    assert not Schedule.parse().never_fires(8, 4)
