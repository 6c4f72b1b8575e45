"""How much work we can afford: which rung the service stands on, and why; pure, a function of state, inputs and clock.

Rungs go from everything (0) to nothing (the last). Each cause makes a `Wish`, and `advance` follows all of them with
hysteresis:

    floor       at once: the rung is at least this (a critical temperature, an empty battery, a budget)
    press       one rung more every `PRESS_S`, up to ``up_to`` (it is getting too warm, clips come late)
    up_to       while a cause is not calm, nothing is eased below it
    calm        one rung less after `EASE_S` without a change and without a wish against it

A rung that had to be left again soon after it was won back is tried later and later, at last once an hour, so a machine at
its limit does not sway. What is too much for the model is decided here; which clip it works on, and
that each one ends, in `edge.daemon.dispatch`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

PRESS_S = 60.0  # between two steps down the ladder: a step shows its effect with the next clip
EASE_S = 300.0  # of calm before a step up
REGRET_S = 2 * EASE_S  # a rung that is lost again within this time was won back too early
PATIENCE_MOST_S = 3600.0

Cause = Literal["backlog", "budget", "heat", "power", "battery", "memory"]
CAUSES: tuple[Cause, ...] = get_args(Cause)


@dataclass(frozen=True, slots=True)
class Rung:
    """What is done for a clip; shares are of what is configured.

    Attributes:
        name: For people.
        gate: Factor on the gate's threshold: the larger, the more has to change for a pair to be kept.
        fps: Share of the frame rate: at most one pair in every ``2 / (fps * rate)`` seconds.
        area: Share of a frame's pixels.
        tokens: Share of each answer's budget.
        rests: The model works on whole clips only, and rests for a clip's length after each.
        works: Whether it works at all; otherwise clips are skipped and announced.
    """

    name: str
    gate: float = 1.0
    fps: float = 1.0
    area: float = 1.0
    tokens: float = 1.0
    rests: bool = False
    works: bool = True


RUNGS: tuple[Rung, ...] = (
    Rung("full"),
    Rung("gate raised", gate=1.5),
    Rung("gate high", gate=2.5),
    Rung("half rate", gate=2.5, fps=0.5),
    Rung("quarter rate", gate=2.5, fps=0.25),
    Rung("small frames", gate=2.5, fps=0.25, area=0.5),
    Rung("short answers", gate=2.5, fps=0.25, area=0.5, tokens=0.5),
    Rung("defer", gate=2.5, fps=0.25, area=0.5, tokens=0.5, rests=True),
    Rung("skip", gate=2.5, fps=0.25, area=0.5, tokens=0.5, works=False),
)
"""The ladder, cheapest loss first: what does not move, then time resolution, then sharpness, then words, then clips."""

GATE_HIGH, QUARTER_RATE, SMALL, SHORT, DEFER, SKIP = 2, 4, 5, 6, 7, 8


@dataclass(frozen=True, slots=True)
class Limits:
    """Where the causes begin; see ``[governor]`` of the configuration.

    Attributes:
        hot_c: From here on less is done, 5 degrees more: deferred, 10 more: nothing; 5 less: calm.
        battery_low: Percent; a discharging battery below it: deferred, below half of it: nothing; two and three times
            as much: a quarter of the rate, a strict gate.
        memory_low: Share of memory that is available; below it less is done, below a third of it nothing.
        cap_w: The operator's limit on the machine's power, 0: none.
    """

    hot_c: float = 75.0
    battery_low: float = 20.0
    memory_low: float = 0.10
    cap_w: float = 0.0


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is known at one moment; None where the machine cannot tell.

    Attributes:
        late_clips: For how long the oldest whole clip has waited, in lengths of a clip.
        lost_clips: Clips that were skipped for want of time since the last call.
        temperature_c: Of the hottest processor zone.
        throttled: The firmware or the kernel has slowed the processor because of heat.
        under_voltage: The supply is too weak.
        memory_available: Share of memory.
        memory_stalled: Percent of the last ten seconds in which some task waited for memory (PSI).
        battery_percent: Of a battery that is being discharged.
        power_w: Mean power of the machine, measured.
    """

    late_clips: float = 0.0
    lost_clips: int = 0
    temperature_c: float | None = None
    throttled: bool = False
    under_voltage: bool = False
    memory_available: float | None = None
    memory_stalled: float | None = None
    battery_percent: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What one cause asks for; see the module's docstring. Without ``floor`` and ``up_to`` it is calm."""

    cause: Cause
    floor: int = 0
    up_to: int = 0
    press: bool = False

    @property
    def calm(self) -> bool:
        """Whether it asks for nothing."""
        return not self.floor and not self.up_to


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a ladder stands.

    Attributes:
        rung: Index into `RUNGS`.
        causes: Why it is not 0; while it is being eased, why it was not.
        since_s: When it last changed.
        calm_s: Since when nothing is against the next better rung; None while something is.
        eased: Whether the last change was for the better.
        barred: The rung that was won back too early; None: there is none.
        patience_s: Calm that it needs the next time.
    """

    rung: int = 0
    causes: tuple[Cause, ...] = ()
    since_s: float = -math.inf
    calm_s: float | None = None
    eased: bool = False
    barred: int | None = None
    patience_s: float = EASE_S

    @property
    def what(self) -> Rung:
        """What the rung means."""
        return RUNGS[self.rung]


TOP = Standing()
"""Everything is done, and nothing is against it."""


def wishes(inputs: Inputs, limits: Limits, before: Sequence[Wish] = ()) -> tuple[Wish, ...]:
    """Say what each cause asks for.

    Args:
        inputs: What is known now.
        limits: Where the causes begin.
        before: What was said the last time: a limit that was passed is left only some way below it.
    """
    was: Mapping[Cause, Wish] = {wish.cause: wish for wish in before}
    none = Wish("heat")
    heat, battery, memory, power = (was.get(cause, none) for cause in ("heat", "battery", "memory", "power"))
    return (
        _backlog(inputs),
        _heat(inputs, limits, heat),
        _power(inputs, limits, power),
        _battery(inputs, limits, battery),
        _memory(inputs, limits, memory),
    )


def advance(standing: Standing, wished: Sequence[Wish], now_s: float) -> Standing:
    """Follow the wishes as far as the time since the last change allows.

    Args:
        standing: Where the ladder stands.
        wished: One wish per cause.
        now_s: The time, never going back.
    """
    floor = max((wish.floor for wish in wished), default=0)
    pressed = max((wish.up_to for wish in wished if wish.press), default=0)
    held = max((wish.up_to for wish in wished), default=0)
    active = tuple(wish.cause for wish in wished if not wish.calm)
    rung = standing.rung
    if rung < floor:
        return _worse(standing, floor, active, now_s)
    if rung < pressed and now_s - standing.since_s >= PRESS_S:
        return _worse(standing, rung + 1, active, now_s)
    causes = active or standing.causes
    if not rung or rung - 1 < max(floor, held):
        return replace(standing, causes=causes if rung else (), calm_s=None)
    calm_s = now_s if standing.calm_s is None else standing.calm_s
    patience_s = standing.patience_s if standing.barred == rung - 1 else EASE_S
    if now_s - max(calm_s, standing.since_s) < patience_s:
        return replace(standing, causes=causes, calm_s=calm_s)
    held_on = standing.barred is not None and rung - 1 < standing.barred
    return Standing(
        rung=rung - 1,
        causes=causes if rung > 1 else (),
        since_s=now_s,
        calm_s=now_s,
        eased=True,
        barred=None if held_on else standing.barred,
        patience_s=EASE_S if held_on else standing.patience_s,
    )


def _worse(standing: Standing, rung: int, causes: tuple[Cause, ...], now_s: float) -> Standing:
    again = standing.eased and now_s - standing.since_s < REGRET_S
    return Standing(
        rung=rung,
        causes=causes,
        since_s=now_s,
        barred=standing.rung if again else standing.barred,
        patience_s=min(PATIENCE_MOST_S, 2 * standing.patience_s) if again else standing.patience_s,
    )


def skip_cause(wished: Sequence[Wish], standing: Standing) -> Cause:
    """Return the cause to be named where a clip is given up because of the rung."""
    worst = max(wished, key=lambda wish: (wish.floor, wish.up_to), default=None)
    if worst is not None and not worst.calm:
        return worst.cause
    return standing.causes[0] if standing.causes else "backlog"


# --- The causes ---------------------------------------------------------------------------------------------------------


def _backlog(inputs: Inputs) -> Wish:
    """Clips that come late. The oldest are skipped by the backlog's own bound, so this never stops the work."""
    late = inputs.late_clips >= 1.0 or inputs.lost_clips > 0
    return Wish("backlog", up_to=SHORT if late or inputs.late_clips >= 0.75 else 0, press=late)


def _heat(inputs: Inputs, limits: Limits, before: Wish) -> Wish:
    """Soft and hard limit of a Raspberry Pi are 80 and 85 degrees: the steps for ``hot_c`` = 75."""
    if inputs.temperature_c is None:
        return Wish("heat", up_to=SHORT if inputs.throttled else 0, press=inputs.throttled)
    over = inputs.temperature_c - limits.hot_c
    floor = _stairs(over, ((5.0, DEFER), (10.0, SKIP)), before.floor, slack=3.0)
    press = over >= 0 or inputs.throttled
    return Wish("heat", floor=floor, up_to=SHORT if press or over >= -5 else 0, press=press)


def _power(inputs: Inputs, limits: Limits, before: Wish) -> Wish:
    """An under-voltage, or more power than the operator allows."""
    if limits.cap_w and inputs.power_w is not None:
        slack = 0.9 if before.up_to else 1.0
        if inputs.power_w >= slack * limits.cap_w:
            return Wish("power", up_to=DEFER, press=inputs.power_w > limits.cap_w)
    return Wish("power", up_to=SHORT if inputs.under_voltage else 0, press=inputs.under_voltage)


def _battery(inputs: Inputs, limits: Limits, before: Wish) -> Wish:
    if inputs.battery_percent is None:
        return Wish("battery")
    low = limits.battery_low
    stairs = ((-3 * low, GATE_HIGH), (-2 * low, QUARTER_RATE), (-low, DEFER), (-low / 2, SKIP))
    return Wish("battery", floor=_stairs(-inputs.battery_percent, stairs, before.floor, slack=3.0))


def _memory(inputs: Inputs, limits: Limits, before: Wish) -> Wish:
    """Little is left, or tasks stall for it. Deferring would hold clips in memory, so the end of it is skipping."""
    low = limits.memory_low  # fewer and smaller pictures take less room; shorter answers do not
    available = 1.0 if inputs.memory_available is None else inputs.memory_available
    stalled = inputs.memory_stalled or 0.0
    floor = _stairs(-available, ((-low / 3, SKIP),), before.floor, slack=low / 3)
    press = available < low or stalled >= 10.0
    hold = available < 1.5 * low or stalled >= 2.0
    return Wish("memory", floor=floor, up_to=SMALL if press or (hold and before.up_to) else 0, press=press)


def _stairs(value: float, stairs: Sequence[tuple[float, int]], before: int, *, slack: float) -> int:
    """Return the highest rung whose limit is reached; one that held before holds until ``slack`` below its limit."""
    reached = [rung for limit, rung in stairs if value >= (limit - slack if rung <= before else limit)]
    return max(reached, default=0)
