"""Looks after the machine for the supervisor: reads its sensors, moves the ladders, counts energy, keeps what it learnt."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from edge.config import Settings
from edge.daemon.cameras import Camera
from edge.daemon.children import Loaded
from edge.daemon.dispatch import Dispatcher
from edge.daemon.effects import ClipEnded, Effect
from edge.daemon.orders import Orders
from edge.daemon.recording import Now
from edge.daemon.regulator import Regulator
from edge.host import budget, sensors
from edge.host.devices import Device, this_device
from edge.host.energy import Account, open_meter
from edge.host.governor import Inputs, Limits
from edge.messages import Answer, GovernorHealth
from edge.records import Census

LOOK_S = 5.0
SAVE_S = 3600.0
PLAN_CELLS = 48.0  # of a pair, where nothing is known of the camera yet

log = logging.getLogger(__name__)


class Steward:
    """One run's care for the machine. All calls come from the supervisor's loop.

    Args:
        settings: The configuration.
        dispatcher: Follows the orders.
        cameras: Whose frame sizes decide what a clip costs.
        cache: Where the costs are kept.
        carry_out: Does what the dispatcher wants done.
        changed: Told when a rung changes.
        sys: Where sysfs is mounted.
        proc: Where procfs is mounted.
    """

    def __init__(
        self,
        settings: Settings,
        dispatcher: Dispatcher,
        cameras: Sequence[Camera],
        cache: Path,
        *,
        carry_out: Callable[[Sequence[Effect]], None],
        changed: Callable[[], None],
        sys: Path = sensors.SYS,
        proc: Path = sensors.PROC,
    ) -> None:
        self._enabled = settings.governor.enabled
        self._threads = settings.engine.threads
        self._gate = settings.gate.level
        self._dispatcher = dispatcher
        self._cameras = cameras
        self._file = budget.costs_file(cache)
        self._carry_out = carry_out
        self._changed = changed
        self._sys, self._proc = sys, proc
        self._device = profile(settings, sys)
        self._account = Account(self._device, open_meter(sys))
        self._pids: tuple[int, ...] = ()
        self._key = ""
        self._orders = Orders()
        self._inputs = Inputs()
        self._throttle: sensors.Throttle | None = None
        self._look_s = self._save_s = 0.0
        clip = settings.clip
        self._regulator = Regulator(
            limits(settings, self._device),
            costs=None,
            seconds=clip.seconds,
            limit_s=share(settings, self._device) * clip.seconds,
            grid=round(clip.seconds * clip.fps / 2),
            words=sum(prompt.max_tokens for prompt in settings.prompt),
        )

    def loaded(self, model: Loaded, now: Now) -> None:
        """Take what is known of the bundle: costs that were learnt before, or else predicted ones."""
        if model.census is not None:
            self._know(model.bundle, model.census)
        self.look(now)

    def _know(self, bundle: str, census: Census) -> None:
        self._key = budget.key(bundle, self._device, self._threads)
        known = budget.load(self._file, self._key)
        self._regulator.costs = known or budget.predicted(census, self._device, cells=PLAN_CELLS)
        log.info("clips are planned by %s costs", "measured" if known else "predicted")

    def tick(self, now: Now) -> None:
        """Look at the sensors when it is time for it. Between clips and looks nothing is read."""
        self._account.tick(now.mono_ns / 1e9)
        if now.mono_ns / 1e9 >= self._look_s:
            self.look(now)

    def look(self, now: Now) -> None:
        """Look at the sensors now, and give orders by what they say."""
        now_s = now.mono_ns / 1e9
        self._look_s = now_s + LOOK_S
        self._inputs = self._read(now)
        if now_s >= self._save_s:
            self.save()
            self._save_s = now_s + SAVE_S
        if not self._enabled:
            return
        for camera in self._cameras:
            if camera.size is not None:
                cells = camera.size.height * camera.size.width / budget.CELL_PIXELS
                self._regulator.opened(camera.name, cells=cells)
        orders = self._regulator.look(self._inputs, now_s)
        before, self._orders = self._orders, orders
        if orders != before:
            self._carry_out(self._dispatcher.govern(orders))
        if self._moved(before, orders):
            self._changed()
        self._tune()

    def reconfigure(self, settings: Settings) -> None:
        """Go on with another threshold of the gate."""
        self._gate = settings.gate.level
        self._tune()

    def begin(self, pids: Iterable[int], now: Now) -> None:
        """The model takes up a clip: begin to count its energy.

        Args:
            pids: The processes that work for it.
            now: The time.
        """
        self._pids = tuple(pids)
        self._account.begin(now.mono_ns / 1e9, self._cpu_s())

    def answered(self, answer: Answer, now: Now) -> Answer:
        """Learn from an answer, and return it with what the machine says."""
        self._regulator.answered(answer)
        energy = self._account.so_far(now.mono_ns / 1e9, self._cpu_s())
        found = {
            "energy_j": None if energy is None else energy.joules,
            "energy_source": None if energy is None else energy.source,
            "throttled": None if self._throttle is None else self._throttle != sensors.Throttle(),
            "temperature_c": self._inputs.temperature_c or answer.provenance.temperature_c,
        }
        made = answer.provenance.model_copy(update=found)
        return answer.model_copy(update={"provenance": made})

    def ended(self, end: ClipEnded) -> None:
        """Note what a clip was like."""
        if end.outcome != "skipped":
            self._account.end()
        if end.pairs:
            self._regulator.closed(end.camera, end.pairs)

    @property
    def temperature_c(self) -> float | None:
        """Of the hottest processor zone."""
        return self._inputs.temperature_c

    def rung(self, camera: str) -> int:
        """Return where a camera stands."""
        return self._orders.standing(camera).rung

    def health(self) -> GovernorHealth:
        """Return what the health message says of it."""
        standing, inputs = self._orders.machine, self._inputs
        return GovernorHealth(
            rung=standing.rung,
            name=standing.what.name,
            causes=standing.causes,
            throttled=None if self._throttle is None else self._throttle.hot,
            under_voltage=None if self._throttle is None else self._throttle.under_voltage,
            memory_available=None if inputs.memory_available is None else round(inputs.memory_available, 3),
            battery_percent=inputs.battery_percent,
            power_w=None if inputs.power_w is None else round(inputs.power_w, 2),
            work=self._regulator.expected(self._orders),
        )

    def save(self) -> None:
        """Keep what was learnt for the next start."""
        if self._key and self._regulator.costs is not None and self._regulator.costs.clips:
            budget.save(self._file, self._key, self._regulator.costs)

    def _tune(self) -> None:
        """Set each camera's gate: as configured, times what its rung asks for."""
        for camera in self._cameras:
            camera.tune(None if self._gate is None else self._gate * self._orders.gate(camera.name))

    def _read(self, now: Now) -> Inputs:
        self._throttle = sensors.throttle(self._sys)
        slowed = self._throttle or sensors.Throttle()
        return Inputs(
            late_clips=self._dispatcher.late_clips(now),
            lost_clips=self._dispatcher.lost_clips,
            temperature_c=sensors.temperature_c(self._sys / "class/thermal"),
            throttled=slowed.hot,
            under_voltage=slowed.under_voltage,
            memory_available=sensors.memory_available(self._proc),
            memory_stalled=sensors.memory_stalled(self._proc),
            battery_percent=sensors.battery_percent(self._sys),
            power_w=self._account.power_w,
        )

    def _moved(self, before: Orders, orders: Orders) -> bool:
        """Log and return whether any rung has changed, or why it is what it is."""
        moved = orders.machine.causes != before.machine.causes
        if orders.machine.rung != before.machine.rung:
            causes = ", ".join(orders.machine.causes or before.machine.causes)
            log.warning(
                "rung %d (%s) after %d: %s",
                orders.machine.rung,
                orders.machine.what.name,
                before.machine.rung,
                causes,
            )
            moved = True
        for camera, standing in orders.cameras.items():
            if standing.rung != before.cameras.get(camera, standing).rung:
                log.info("camera %s: rung %d (%s) by its budget", camera, standing.rung, standing.what.name)
                moved = True
        return moved

    def _cpu_s(self) -> float:
        return sum(sensors.cpu_seconds(pid, self._proc) for pid in self._pids)


def profile(settings: Settings, sys: Path) -> Device:
    """Return the machine's profile with what the operator knows better."""
    device, power = this_device(sys), settings.power
    return replace(device, idle_w=power.idle_w or device.idle_w, busy_w=power.busy_w or device.busy_w)


def limits(settings: Settings, device: Device) -> Limits:
    """Return where the causes begin."""
    governor = settings.governor
    return Limits(
        hot_c=governor.hot_c or device.hot_c,
        battery_low=governor.battery_low,
        memory_low=governor.memory_low,
        cap_w=settings.power.cap_w,
    )


def share(settings: Settings, device: Device) -> float:
    """Return the seconds of work per second that are allowed: as configured, or less where the power's cap asks for it."""
    cap_w, work = settings.power.cap_w, settings.governor.work
    if not cap_w or device.busy_w <= device.idle_w:
        return work
    return max(0.0, min(work, (cap_w - device.idle_w) / (device.busy_w - device.idle_w)))
