"""A day of three cameras in seconds: the real dispatcher and governor on a simulated machine and a clock of its own.

The machine gets warm when it works and is slowed when it is too hot; its surroundings have a heat wave, its supply fails
and leaves it to a battery, other programs take its memory and its processor, and in the rush hour everything moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge.daemon.dispatch import Dispatcher
from edge.daemon.effects import Begin, ClipEnded, ClipOpened, Effect, End, More
from edge.daemon.orders import Orders
from edge.daemon.recording import Now
from edge.daemon.regulator import Regulator
from edge.host.governor import Inputs, Limits, Standing
from edge.messages import SkipReason
from edge.records import ClipStats, Effort, Pair, Prompt
from tests.clips import make_answer

HOUR = 3600
DAY = 24 * HOUR
CLIP = 60
PAIR = 4  # seconds of a pair, so that a day stays small
PAIRS = CLIP // PAIR
CAMERAS = ("door", "yard", "road")
MONO_0 = 5_000_000_000_000
UTC_0 = 1_800_000_000_000_000_000
PAIR_S = 2.0  # of work
ANSWER_S = 4.0
BACKLOG = 2
PROMPTS = (Prompt("summary", "summary", "What?", 320),)
FRAMES = np.zeros((2, 2, 2, 3), np.uint8)


def within(second: int, begin_h: float, end_h: float) -> bool:
    return begin_h * HOUR <= second < end_h * HOUR


def surroundings_c(second: int) -> float:
    """A heat wave from noon on, and for half an hour the sun on the box."""
    if within(second, 14, 14.5):
        return 92.0
    return 46.0 if within(second, 12, 17) else 24.0


def slowness(second: int) -> float:
    """A back-up takes half of the processor."""
    return 2.0 if within(second, 4, 5) else 1.0


def kept(second: int, index: int) -> bool:
    """What passes the gate at its default: a third, and everything in the rush hour."""
    return within(second, 7, 9) or index % 3 == 0


def memory_available(second: int) -> float:
    if within(second, 2, 2.2):
        return 0.02
    return 0.08 if within(second, 1.8, 2.5) else 0.6


def battery_percent(second: int) -> float | None:
    """The supply fails for three and a half hours."""
    return 100.0 - 27.5 * (second / HOUR - 17.5) if within(second, 17.5, 21) else None


@dataclass
class Model:
    """The inference process: one thing at a time, each taking its time."""

    free_s: float = 0.0
    doing: str = "start"
    begin: Begin | None = None
    stats: ClipStats | None = None
    work_s: float = 0.0

    def give(self, effect: Begin | More | End, now_s: float, slow: float) -> None:
        work_s = 0.0
        if isinstance(effect, Begin):
            self.begin, self.doing = effect, "hungry"
        elif isinstance(effect, More):
            assert self.begin is not None
            work_s, self.doing = PAIR_S * self.begin.effort.area * len(effect.pairs), "hungry"
        else:
            assert self.begin is not None
            work_s = ANSWER_S * self.begin.prompts[0].max_tokens / PROMPTS[0].max_tokens
            self.doing, self.stats = "answer", effect.stats
        self.work_s += work_s
        self.free_s = max(self.free_s, now_s) + work_s * slow


@dataclass
class Day:
    """What happened."""

    opened: dict[str, list[ClipOpened]] = field(default_factory=lambda: {name: [] for name in CAMERAS})
    ended: dict[str, list[ClipEnded]] = field(default_factory=lambda: {name: [] for name in CAMERAS})
    efforts: dict[str, Effort] = field(default_factory=dict)  # by clip id
    ladder: list[tuple[int, Standing]] = field(default_factory=list)  # every change, with its second
    hottest_c: float = 0.0
    work_s: float = 0.0

    def reasons(self, begin_h: float, end_h: float) -> set[SkipReason | None]:
        """Return why clips were skipped in a part of the day."""
        return {
            end.reason
            for ends in self.ended.values()
            for end in ends
            if end.outcome == "skipped" and within(CLIP * end.seq, begin_h, end_h)
        }

    def rungs(self, begin_h: float, end_h: float) -> set[int]:
        """Return on which rungs the machine stood in a part of the day."""
        before = [standing.rung for second, standing in self.ladder if second < begin_h * HOUR][-1:]
        return {*before, *(s.rung for second, s in self.ladder if within(second, begin_h, end_h))}


class Simulation:
    """One day, second by second."""

    def __init__(self) -> None:
        self.day = Day()
        self._dispatcher = Dispatcher(
            device="d", epoch="e", seconds=CLIP, fps=2 / PAIR, prompts=PROMPTS, backlog=BACKLOG
        )
        self._regulator = Regulator(
            Limits(), costs=None, seconds=CLIP, limit_s=0.9 * CLIP, grid=PAIRS, words=320
        )
        self._model = Model()
        self._temperature_c = surroundings_c(0)
        self._gate = 1.0
        self._counts = dict.fromkeys(CAMERAS, 0)
        for name in CAMERAS:
            self._dispatcher.add(name, origin_mono_ns=MONO_0, first_seq=0, paced=True, live=True)

    def run(self) -> Day:
        """Live through the day."""
        self._do(self._dispatcher.model_ready())
        for second in range(DAY + 1):
            self._second(second)
        self.day.work_s = self._model.work_s
        return self.day

    def _second(self, second: int) -> None:
        self._s = second
        busy = self._model.free_s > second
        # 32 degrees above the surroundings in steady work, approached in minutes; slowed at 85 as a Pi is.
        target_c = surroundings_c(second) + (32.0 if busy else 4.0)
        self._temperature_c += (target_c - self._temperature_c) / 240
        self.day.hottest_c = max(self.day.hottest_c, self._temperature_c)
        self._capture(second)
        self._do(self._dispatcher.tick(self._now))
        while self._model.free_s <= second and self._model.doing in ("hungry", "answer"):
            self._advance()
        if second % 5 == 0:
            self._govern(second)

    @property
    def _now(self) -> Now:
        ns = self._s * 1_000_000_000
        return Now(MONO_0 + ns, UTC_0 + ns, synced=True)

    def _capture(self, second: int) -> None:
        if second == 0 or second % PAIR:
            return
        seq, index = divmod(second // PAIR - 1, PAIRS)
        for number, name in enumerate(CAMERAS):
            # A raised gate lets less of what moves slightly through.
            if kept(second, index + number) and (self._gate < 2 or (index + number) % 6):
                self._counts[name] += 1
                pair = Pair(index, index * PAIR + PAIR / 2, FRAMES)
                self._do(self._dispatcher.pair(name, seq, pair, self._now))
            if index == PAIRS - 1:
                count, self._counts[name] = self._counts[name], 0
                stats = ClipStats(CLIP, 2 * PAIRS, 2 * PAIRS, 0, 0, count, 0.0, (), 0.0)
                self._do(self._dispatcher.closed(name, seq, stats, self._now))

    def _advance(self) -> None:
        """The model has finished a step."""
        model = self._model
        if model.doing == "hungry":
            model.doing = "waits"
            self._do(self._dispatcher.need_pairs())
            if model.doing == "waits":
                self._waiting = True
            return
        assert model.begin is not None
        assert model.stats is not None
        answer = make_answer(model.begin.plan, model.stats, "summary")
        model.doing = "idle"
        self._do(self._dispatcher.answered(answer))
        self._do(self._dispatcher.model_ready())

    def _govern(self, second: int) -> None:
        hot = self._temperature_c >= 85.0
        orders: Orders = self._regulator.look(
            Inputs(
                late_clips=self._dispatcher.late_clips(self._now),
                lost_clips=self._dispatcher.lost_clips,
                temperature_c=self._temperature_c,
                throttled=hot,
                memory_available=memory_available(second),
                battery_percent=battery_percent(second),
            ),
            float(second),
        )
        if not self.day.ladder or self.day.ladder[-1][1].rung != orders.machine.rung:
            self.day.ladder.append((second, orders.machine))
        self._gate = orders.gate(CAMERAS[0])
        self._do(self._dispatcher.govern(orders))

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case ClipOpened():
                    self.day.opened[effect.camera].append(effect)
                case ClipEnded():
                    self.day.ended[effect.camera].append(effect)
                case Begin() | More() | End():
                    if isinstance(effect, Begin):
                        self.day.efforts[effect.plan.clip_id] = effect.effort
                    slow = slowness(self._s) * (2.0 if self._temperature_c >= 85.0 else 1.0)
                    self._model.give(effect, self._s, slow)
                case _:
                    pass
