"""How many steps a training run takes, how long it may last, and the learning rate on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

# The first steps are slow (memory is allocated, kernels are chosen) and are not counted.
UNCOUNTED_STEPS, MEASURED_STEPS = 2, 4
MEASURED_SHARE = 0.8

# Kept back from the user's minutes for writing the result.
RESERVE_SECONDS = 5.0


def minutes_left(minutes: float, began: float, reserve: float = RESERVE_SECONDS) -> float:
    """What is left for the steps, at least a second, of `minutes` that started at `began` (`time.monotonic`)."""
    return max(1.0, 60 * minutes - (time.monotonic() - began) - reserve) / 60


class Schedule:
    """A run of a fixed number of steps, or of as many as fit into some minutes.

    With minutes, steps are timed, and the number of steps is derived from them and stored. It follows what is measured,
    because other programs make steps slower for a while; towards the end, and in a resumed run, it only shrinks, so
    that the run ends in time with the rate fully decayed.

    Args:
        steps: number of steps; exclusive with `minutes`.
        minutes: time for all steps together, over all sittings of a resumed run.
    """

    def __init__(
        self, steps: int | None = None, minutes: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if (steps is None) == (minutes is None):
            raise ValueError("give either steps or minutes")
        self.steps, self.minutes = steps, minutes
        self.done = 0
        self._clock = clock
        self._spent = 0.0
        self._since = clock()
        self._step_seconds: list[float] = []
        self._last = self._since
        self._settled = False

    @property
    def seconds_spent(self) -> float:
        """Seconds used by this run, earlier sittings included."""
        return self._spent + self._clock() - self._since

    @property
    def seconds_left(self) -> float | None:
        """Estimate for the remaining steps; None before it can be known."""
        if not self._step_seconds:
            return None if self.minutes is None else max(0.0, 60 * self.minutes - self.seconds_spent)
        if self.steps is None:
            return max(0.0, 60 * (self.minutes or 0.0) - self.seconds_spent)
        return self._mean_step() * max(0, self.steps - self.done)

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        if self.steps is not None and self.done >= self.steps:
            return True
        return self.minutes is not None and self.done > 0 and self.seconds_spent >= 60 * self.minutes

    @property
    def fraction(self) -> float:
        """Share of the run that is over, 0-1."""
        if self.steps is not None:
            return min(1.0, self.done / self.steps) if self.steps else 1.0
        return min(1.0, self.seconds_spent / (60 * (self.minutes or 1.0)))

    def rate(self, warm_up: float) -> float:
        """Factor on the peak learning rate: linear warm-up over a share of the run, then half a cosine to zero."""
        position = self.fraction
        if self.steps is not None:
            position = min(1.0, (self.done + 0.5) / self.steps)
        if position < warm_up:
            return position / warm_up
        return 0.5 * (1 + math.cos(math.pi * (position - warm_up) / (1 - warm_up)))

    def step_done(self) -> None:
        """Count one step and, with minutes, fit the number of steps to the time."""
        now = self._clock()
        self.done += 1
        if self.done > UNCOUNTED_STEPS:
            self._step_seconds.append(now - self._last)
        self._last = now
        if self.finished:
            self.steps = self.done
        if self.minutes is None or len(self._step_seconds) < MEASURED_STEPS:
            return
        possible = self.done + math.floor((60 * self.minutes - self.seconds_spent) / self._mean_step())
        possible = max(self.done, possible)
        self._settled = self._settled or self.seconds_spent > MEASURED_SHARE * 60 * self.minutes
        self.steps = min(self.steps, possible) if self._settled and self.steps is not None else possible

    def state(self) -> dict[str, Any]:
        """What a checkpoint stores."""
        # Time can end after a step was counted.
        steps = self.done if self.steps is None and self.finished else self.steps
        return {"steps": steps, "minutes": self.minutes, "done": self.done, "seconds_spent": self.seconds_spent}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.steps, self.minutes, self.done = state["steps"], state["minutes"], state["done"]
        self._spent, self._since = state["seconds_spent"], self._clock()
        self._last = self._since
        self._settled = self.steps is not None

    def _mean_step(self) -> float:
        """Over the later half of the run so far: a few slow steps do not count too much, nor does a slow start."""
        recent = self._step_seconds[-max(20, len(self._step_seconds) // 2) :]
        return max(1e-6, sum(recent) / len(recent))
