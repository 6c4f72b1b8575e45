"""Makes the dispatcher's orders of what sensors and answers say: one ladder for the machine, one per camera's budget."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from edge.daemon.orders import Orders
from edge.host.budget import ALPHA, Costs, Need, allot, clip_s, learn, seen
from edge.host.governor import (
    DEFER,
    RUNGS,
    SHORT,
    Inputs,
    Limits,
    Standing,
    Wish,
    advance,
    skip_cause,
    wishes,
)
from edge.messages import Answer

RECENT = 3  # clips of a camera, the fullest of which is expected to come again


class Regulator:
    """Keeps where the ladders stand and what clips cost; pure, with the time as an argument.

    Args:
        limits: Where the causes begin.
        costs: What is known of this machine and bundle; None: nothing before the first answer.
        seconds: Length of a clip.
        limit_s: Work that all cameras' clips of that length may take together.
        grid: Pairs of a whole clip.
        words: Tokens that all answers of a clip may have; what they do have is learnt.
    """

    def __init__(
        self, limits: Limits, *, costs: Costs | None, seconds: float, limit_s: float, grid: int, words: int
    ) -> None:
        self.limits = limits
        self.costs = costs
        self._seconds = seconds
        self._limit_s = limit_s
        self._grid = grid
        self._words = float(words)
        self._most_words = float(words)
        self._writing = ("", 0.0)  # the clip that is being answered, and its tokens so far
        self._machine = Standing()
        self._wishes: tuple[Wish, ...] = ()
        self._cameras: dict[str, Standing] = {}
        self._needs: dict[str, Need] = {}
        self._kept: dict[str, deque[int]] = {}
        self._lost = 0
        self._over = False  # even the least work on every clip is more than the power's cap allows

    @property
    def machine(self) -> Standing:
        """Where the machine's ladder stands."""
        return self._machine

    def opened(self, camera: str, *, cells: float) -> None:
        """Take up a camera, or its other size: until its first clip is known, everything is expected to move."""
        if camera in self._needs:
            self._needs[camera] = replace(self._needs[camera], cells=cells)
            return
        self._needs[camera] = Need(kept=self._grid, grid=self._grid, cells=cells, words=self._words)
        self._kept.setdefault(camera, deque(maxlen=RECENT))

    def closed(self, camera: str, kept: int) -> None:
        """Note how many pairs of a clip the gate let through."""
        if camera not in self._needs:
            return
        first = not self._kept[camera]
        self._kept[camera].append(kept)
        self._needs[camera] = replace(self._needs[camera], kept=max(self._kept[camera]))
        if first:
            self._cameras.pop(camera, None)  # the guess of the start binds nobody

    def answered(self, answer: Answer) -> None:
        """Learn from an answer what the work costs, and how much is written about a clip."""
        made = answer.provenance
        clip, words = self._writing
        if clip != answer.clip_id:
            if words:
                self._words = min(self._most_words, self._words + ALPHA * (words - self._words))
                self._needs = {name: replace(need, words=self._words) for name, need in self._needs.items()}
            words = 0.0
        self._writing = answer.clip_id, words + made.tokens_out / RUNGS[min(made.rung, SHORT)].tokens
        if self.costs is None:
            return
        self.costs = learn(self.costs, seen(made))

    def look(self, inputs: Inputs, now_s: float) -> Orders:
        """Move the ladders as the time allows, and return what holds now.

        Args:
            inputs: What is known; ``lost_clips`` since the service began.
            now_s: The time, never going back.
        """
        lost, self._lost = inputs.lost_clips - self._lost, inputs.lost_clips
        idle = self._machine.what.rests or not self._machine.what.works
        # Clips that are late because nobody works on them say nothing of the machine.
        inputs = replace(inputs, lost_clips=lost, late_clips=0.0 if idle else inputs.late_clips)
        self._wishes = (*wishes(inputs, self.limits, self._wishes), self._capped())
        self._machine = advance(self._machine, self._wishes, now_s)
        for camera, rung in self._allotted().items():
            standing = self._cameras.get(camera, Standing(rung=rung, causes=("budget",) if rung else ()))
            self._cameras[camera] = advance(standing, (Wish("budget", floor=rung),), now_s)
        return Orders(self._machine, dict(self._cameras), skip_cause(self._wishes, self._machine))

    def expected(self, orders: Orders) -> float | None:
        """Return the seconds of work per second of video of all cameras that are expected at these rungs."""
        if self.costs is None or not self._needs:
            return None
        work_s = sum(
            clip_s(self.costs, need, orders.standing(camera).what) for camera, need in self._needs.items()
        )
        return round(work_s / self._seconds, 3)

    def _capped(self) -> Wish:
        """Defer clips where the operator's cap on power leaves no room for a look at each; a cap that is just met holds."""
        if not self.limits.cap_w or self.costs is None or not self._needs:
            return Wish("power")
        least_s = sum(clip_s(self.costs, need, RUNGS[SHORT]) for need in self._needs.values())
        self._over = least_s > self._limit_s * (0.9 if self._over else 1.0)
        return Wish("power", floor=DEFER if self._over else 0)

    def _allotted(self) -> Mapping[str, int]:
        return {} if self.costs is None else allot(self.costs, self._needs, self._limit_s)
