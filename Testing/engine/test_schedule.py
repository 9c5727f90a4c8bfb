"""The schedule: fixed steps, minutes that are kept, and resuming."""

import math

import pytest

from glmae.schedule import Schedule


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(schedule: Schedule, clock: Clock, seconds: float, most: int = 10_000) -> None:
    for _ in range(most):
        if schedule.finished:
            return
        clock.now += seconds
        schedule.step_done()


def test_steps_are_exact_and_the_rate_is_warm_up_and_cosine():
    schedule = Schedule(steps=100)
    rates = []
    while not schedule.finished:
        rates.append(schedule.rate(warm_up=0.1))
        schedule.step_done()
    assert len(rates) == 100
    expected = [
        (t / 0.1 if t < 0.1 else 0.5 * (1 + math.cos(math.pi * (t - 0.1) / 0.9)))
        for t in [(step + 0.5) / 100 for step in range(100)]
    ]
    assert rates == pytest.approx(expected)


def test_minutes_are_kept_and_used():
    clock = Clock()
    schedule = Schedule(minutes=2, clock=clock)
    run(schedule, clock, seconds=0.5)
    assert clock.now - 100 <= 120
    assert clock.now - 100 >= 115
    assert schedule.steps == schedule.done
    assert schedule.rate(0.05) == pytest.approx(0, abs=1e-3)


def test_slower_steps_shorten_the_schedule():
    clock = Clock()
    schedule = Schedule(minutes=2, clock=clock)
    run(schedule, clock, seconds=0.5, most=60)
    planned = schedule.steps
    run(schedule, clock, seconds=2.0)
    assert schedule.steps is not None
    assert planned is not None
    assert schedule.steps < planned
    assert clock.now - 100 <= 122


def test_a_slow_start_does_not_shorten_the_run():
    clock = Clock()
    schedule = Schedule(minutes=4, clock=clock)
    run(schedule, clock, seconds=3.0, most=12)
    first = schedule.steps
    run(schedule, clock, seconds=0.5)
    assert first is not None
    assert schedule.done > 3 * first
    assert 232 <= clock.now - 100 <= 240


def test_a_run_that_is_over_before_its_steps_were_measured_knows_their_number():
    clock = Clock()
    schedule = Schedule(minutes=1, clock=clock)
    run(schedule, clock, seconds=25.0)
    assert schedule.steps == schedule.done == 3


def test_a_resumed_schedule_goes_on():
    clock = Clock()
    schedule = Schedule(minutes=2, clock=clock)
    run(schedule, clock, seconds=0.5, most=60)
    clock.now += 1000
    resumed = Schedule(minutes=2, clock=clock)
    resumed.restore(schedule.state() | {"seconds_spent": 30.0})
    run(resumed, clock, seconds=0.5)
    assert resumed.done == pytest.approx(240, abs=6)


def test_either_steps_or_minutes():
    with pytest.raises(ValueError, match="either"):
        Schedule()
    with pytest.raises(ValueError, match="either"):
        Schedule(steps=1, minutes=1)


def test_a_run_whose_time_ends_between_two_steps_has_taken_those_that_it_took():
    clock = Clock()
    schedule = Schedule(minutes=1, clock=clock)
    clock.now += 59
    schedule.step_done()
    assert schedule.state()["steps"] is None
    clock.now += 2
    assert schedule.finished
    assert schedule.state()["steps"] == 1
