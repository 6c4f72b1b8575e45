"""Batches for the steps of a training: drawn ahead by other processes, and each taught several times."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Final

import numpy as np

from export.demo import batches, schedule
from export.demo.batches import Batch, Source
from export.demo.schedule import Course

_ORDER: Final = 5  # last part of the seed of each batch's plan, apart from the clips' seeds
_USE: Final = 6  # the same, of which batch a step takes
_WINDOW: Final = 12  # batches that are kept to be taught again


class Supply:
    """Batches for steps: drawn ahead, and each taught several times, with other questions.

    Args:
        source: Of the batches.
        course: Says what is taught at which step.
        tokens: About so many a step.
        pool: Draws them; None draws them here.
        ahead: How many are drawn before they are needed.
    """

    def __init__(
        self, source: Source, course: Course, tokens: int, pool: ProcessPoolExecutor | None, ahead: int
    ) -> None:
        self._source = source
        self._course = course
        self._tokens = tokens
        self._pool = pool
        self._ahead = ahead
        self._kept: dict[int, Future[Batch]] = {}
        self._seen: dict[int, Any] = {}

    def at(self, step: int) -> tuple[int, Batch, int]:
        """Return the number of the batch of a step, the batch, and which use of it this is.

        A phase takes a new batch at every so-manieth step, named by that step, and one of its last dozen in between.
        """
        level = self._course.level(step)
        uses = self._course.phase(step).uses
        newest = step - step % uses
        rng = np.random.default_rng([self._source.seed, step, _USE])
        known = [
            number
            for number in range(newest, newest - _WINDOW * uses, -uses)
            if number >= 0 and self._course.level(number) == level
        ]
        number = step if step == newest or not known else int(rng.choice(known))
        last = step - _WINDOW * uses
        for old in [old for old in self._kept if old < last]:
            del self._kept[old]
        for place in range(1, self._ahead + 1):
            later = newest + place * uses
            # No farther than the course is known.
            if self._course.known(later) and self._course.level(later) == level:
                self._order(later)
        self._order(number)
        return number, self._kept[number].result(), int(rng.integers(uses))

    def seen(self, number: int, look: Callable[[Batch], Any]) -> Any:
        """Return the visual tokens of a batch, worked out once: the tower learns no more."""
        if number not in self._seen:
            self._seen = {key: value for key, value in self._seen.items() if key in self._kept}
            self._seen[number] = look(self._kept[number].result())
        return self._seen[number]

    def _order(self, number: int) -> None:
        if number in self._kept:
            return
        rng = np.random.default_rng([self._source.seed, number, _ORDER])
        phase = self._course.phase(number)
        plan = schedule.plan(phase, rng, stage=self._source.stage, tokens=self._tokens)
        if self._pool is not None:
            self._kept[number] = self._pool.submit(batches.make, self._source, number, plan)
        else:
            self._kept[number] = Future()
            self._kept[number].set_result(batches.make(self._source, number, plan))
