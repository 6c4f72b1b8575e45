"""The machine's sensors as files, the real dispatcher, no process: what is read, ordered, counted and kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.config import BundleSettings, CameraSettings, GovernorSettings, PowerSettings, Settings
from edge.daemon.dispatch import Dispatcher
from edge.daemon.effects import Begin, Effect
from edge.daemon.orders import Orders
from edge.daemon.recording import Now
from edge.daemon.regulator import Regulator
from edge.daemon.steward import LOOK_S, Steward, share
from edge.host.budget import Costs
from edge.host.devices import RASPBERRY_PI_5
from edge.host.governor import DEFER, EASE_S, SHORT, Inputs, Limits
from edge.messages import Latency, clip_id
from edge.records import ClipPlan
from tests.clips import (
    BACKLOG,
    FIRST_SEQ,
    FPS,
    MONO_0,
    PROMPTS,
    SECONDS,
    SIZE,
    UTC_0,
    make_answer,
    make_pair,
    make_stats,
)


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="ascii")


def at(seconds: float) -> Now:
    ns = round(seconds * 1e9)
    return Now(MONO_0 + ns, UTC_0 + ns, synced=True)


class House:
    """A steward with a dispatcher of one live camera."""

    def __init__(self, root: Path, settings: Settings | None = None) -> None:
        self.sys = root / "sys"
        put(self.sys, "firmware/devicetree/base/model", "Raspberry Pi 5 Model B Rev 1.0")
        self.changes = 0
        self.effects: list[Effect] = []
        self.dispatcher = Dispatcher(
            device="d", epoch="e", seconds=SECONDS, fps=FPS, prompts=PROMPTS, backlog=BACKLOG
        )
        self.dispatcher.add("c0", origin_mono_ns=MONO_0, first_seq=FIRST_SEQ, paced=True, live=True)
        self.steward = Steward(
            settings
            or Settings(bundle=BundleSettings(path=root), camera=(CameraSettings(id="c0", source="x"),)),
            self.dispatcher,
            (),
            root / "cache",
            carry_out=self._carry_out,
            changed=self._changed,
            sys=self.sys,
            proc=root / "proc",
        )

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        self.effects += effects

    def _changed(self) -> None:
        self.changes += 1

    def temperature(self, celsius: float) -> None:
        put(self.sys, "class/thermal/thermal_zone0/type", "cpu-thermal")
        put(self.sys, "class/thermal/thermal_zone0/temp", str(round(1000 * celsius)))


def test_the_boards_own_limits_hold_and_a_clip_begun_when_hot_says_so(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.temperature(81)  # the soft limit of this board is 80
    house.steward.tick(at(0))
    health = house.steward.health()
    assert (health.rung, health.causes, house.steward.temperature_c) == (DEFER, ("heat",), 81.0)
    assert house.changes == 1
    house.dispatcher.tick(at(0))
    assert house.dispatcher.model_ready() == []
    house.dispatcher.pair("c0", FIRST_SEQ, make_pair(FIRST_SEQ, 0), at(0.5))
    (begin,) = (
        e for e in house.dispatcher.closed("c0", FIRST_SEQ, make_stats(1), at(2)) if isinstance(e, Begin)
    )
    assert (begin.effort.rung, begin.effort.causes, begin.effort.area) == (DEFER, ("heat",), 0.5)
    assert all(
        short.max_tokens == max(64, full.max_tokens // 2)
        for short, full in zip(begin.prompts, PROMPTS, strict=True)
    )


def test_sensors_are_looked_at_now_and_then_and_changes_are_told_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.temperature(50)
    house.steward.tick(at(0))
    house.temperature(90)
    house.steward.tick(at(LOOK_S - 0.1))
    assert house.steward.temperature_c == 50
    house.steward.tick(at(LOOK_S))
    house.steward.tick(at(2 * LOOK_S))
    assert house.steward.temperature_c == 90
    assert house.changes == 1
    house.temperature(50)
    seconds = 2 * LOOK_S
    while house.steward.health().rung and seconds < 20 * EASE_S:
        seconds += LOOK_S
        house.steward.tick(at(seconds))
    assert house.steward.health().rung == 0


def test_an_answer_carries_energy_and_throttling(tmp_path: Path) -> None:
    house = House(tmp_path)
    put(house.sys, "devices/platform/soc/soc:firmware/get_throttled", "4")
    put(house.sys, "class/powercap/intel-rapl:0/name", "package-0")
    put(house.sys, "class/powercap/intel-rapl:0/energy_uj", "1000000")
    put(house.sys, "class/powercap/intel-rapl:0/max_energy_range_uj", "100000000")
    house = House(tmp_path)  # a meter is looked for once
    house.steward.tick(at(0))
    plan = _plan(house)
    house.steward.begin([], at(1))
    put(house.sys, "class/powercap/intel-rapl:0/energy_uj", "6000000")
    made = house.steward.answered(make_answer(plan.plan, make_stats(1), "summary"), at(3)).provenance
    assert (made.energy_j, made.energy_source, made.throttled) == (5.0, "measured", True)


def _plan(house: House) -> Begin:
    house.dispatcher.tick(at(0))
    house.dispatcher.model_ready()
    effects = house.dispatcher.pair("c0", FIRST_SEQ, make_pair(FIRST_SEQ, 0), at(0.5))
    (begin,) = (effect for effect in effects if isinstance(effect, Begin))
    assert begin.plan.t_start.tzinfo is not None
    assert begin.plan.t_start.utcoffset() == timedelta(0)
    return begin


def test_switched_off_it_reads_and_orders_nothing(tmp_path: Path) -> None:
    settings = Settings(
        bundle=BundleSettings(path=tmp_path),
        camera=(CameraSettings(id="c0", source="x"),),
        governor=GovernorSettings(enabled=False),
    )
    house = House(tmp_path, settings)
    house.temperature(99)
    house.steward.tick(at(0))
    assert (house.steward.health().rung, house.steward.temperature_c, house.changes) == (0, 99.0, 0)


@pytest.mark.parametrize(("cap_w", "expected"), [(0.0, 0.9), (5.0, 0.5), (6.9, 0.9), (2.0, 0.0)])
def test_a_cap_on_power_is_a_cap_on_work(tmp_path: Path, cap_w: float, expected: float) -> None:
    """Of a device that draws 3 W idle and 7 W busy."""
    settings = Settings(
        bundle=BundleSettings(path=tmp_path),
        camera=(CameraSettings(id="c0", source="x"),),
        power=PowerSettings(cap_w=cap_w),
    )
    assert share(settings, RASPBERRY_PI_5) == pytest.approx(expected)


def test_a_cap_that_leaves_no_room_for_every_clip_defers_them() -> None:
    costs = Costs(cell_s=0.001, token_s=0.003, bend=0.0, word_s=0.05, clips=1)
    for cap_w, limit_s, expected in ((4.0, 5.0, DEFER), (0.0, 5.0, 0), (6.0, 50.0, 0)):
        regulator = Regulator(
            Limits(cap_w=cap_w), costs=costs, seconds=60, limit_s=limit_s, grid=240, words=640
        )
        regulator.opened("c0", cells=48)
        assert regulator.look(Inputs(), 0.0).machine.rung == expected


def test_how_much_is_written_is_learnt_whatever_the_rung() -> None:
    costs = Costs(cell_s=0.0, token_s=0.0, bend=0.0, word_s=1.0, clips=1)
    regulator = Regulator(Limits(), costs=costs, seconds=60, limit_s=54, grid=240, words=640)
    regulator.opened("c0", cells=48)
    for number in range(60):
        answer = make_answer(_clip(number), make_stats(1), "summary")
        rung = SHORT if number % 2 else 0
        made = answer.provenance.model_copy(
            update={"tokens_out": 60 if rung else 120, "rung": rung, "latency": Latency(**WORDY[rung])}
        )
        regulator.answered(answer.model_copy(update={"provenance": made}))
    expected = regulator.expected(Orders())
    assert expected == pytest.approx(120 / 60, rel=0.05)  # 120 words of a second each, in a minute


WORDY = {
    rung: {"capture": 0.0, "vision": 0.0, "prefill": 0.0, "decode": words}
    for rung, words in ((0, 120.0), (SHORT, 60.0))
}


def _clip(seq: int) -> ClipPlan:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return ClipPlan("c0", seq, clip_id("d", "c0", "e", seq), start, True, 2.0, 4.0, SIZE, SIZE)


def test_the_start_assumes_the_worst_and_the_first_clip_corrects_it() -> None:
    costs = Costs(cell_s=0.001, token_s=0.005, bend=0.0, word_s=0.02, clips=1)
    regulator = Regulator(Limits(), costs=costs, seconds=60, limit_s=54, grid=240, words=640)
    regulator.opened("c0", cells=48)
    first = regulator.look(Inputs(), 0.0)
    assert first.standing("c0").causes == ("budget",)
    assert first.machine.rung == 0
    regulator.closed("c0", 20)  # nearly nothing moved
    assert regulator.look(Inputs(), 5.0).standing("c0").rung == 0
    regulator.closed("c0", 240)  # and now everything
    assert regulator.look(Inputs(), 10.0).standing("c0").rung == first.standing("c0").rung
    regulator.closed("c0", 20)
    assert regulator.look(Inputs(), 15.0).standing("c0").rung > 0  # it may come again
    assert regulator.expected(regulator.look(Inputs(), 20.0)) is not None
