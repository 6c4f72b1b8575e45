"""The capture processes: started, heard, held back, replaced and ended, one per camera."""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.capture.address import kind_of
from edge.capture.events import Away, Back, Beat, CaptureJob, Closed, Ended, Gated, Opened, PairReady
from edge.config import CameraSettings, ClipSettings
from edge.daemon.children import Child, Fatal, Loaded, Lost, Stop, Tune, capture_main
from edge.daemon.dispatch import Dispatcher
from edge.daemon.effects import Effect
from edge.daemon.recording import Now
from edge.daemon.slots import Slot
from edge.errors import EdgeError, VideoError
from edge.records import Size

LEAD_S = 2.0  # from a live camera's start to its first clip: time to connect
SILENT_S = 15.0  # a capture process beats once a second
START_S = 60.0  # until it speaks for the first time
FRUITLESS = 5  # processes in a row that a file ends before it is given up

State = Literal["starting", "live", "away", "ended", "stopped"]

log = logging.getLogger(__name__)


class Camera:
    """One camera and its capture process.

    Args:
        settings: The camera.
        clip: The grid.
        gate: The gate's threshold; None: every pair is sent.
        dispatcher: Decides; what it wants done goes to ``carry_out``.
        inbox: Where the process is heard.
        carry_out: Does what the dispatcher wants done.
        now: Reads the clocks.
        fail: Told of what no restart mends.
        changed: Told when ``state`` changes.
        stills: Whether the key frame of every clip is kept.
    """

    def __init__(
        self,
        settings: CameraSettings,
        clip: ClipSettings,
        gate: float | None,
        dispatcher: Dispatcher,
        inbox: queue.SimpleQueue[Any],
        *,
        carry_out: Callable[[Sequence[Effect]], None],
        now: Callable[[], Now],
        fail: Callable[[EdgeError], None],
        changed: Callable[[], None],
        stills: bool = False,
    ) -> None:
        self.name = settings.id
        self.live = kind_of(settings.source) != "file"
        self.state: State = "starting"
        self.slot = Slot()
        self.size: Size | None = None  # at which the model is shown its pictures
        self.latest: tuple[NDArray[np.uint8], float] | None = (
            None  # picture and time.monotonic of its arrival
        )
        self._settings = settings
        self._stills = stills
        self._clip = clip
        self._gate = gate
        self._dispatcher = dispatcher
        self._inbox = inbox
        self._carry_out = carry_out
        self._now = now
        self._fail = fail
        self._changed = changed
        self._loaded: Loaded | None = None
        self._origin_mono_ns = 0
        self._first_seq = 0
        self._opened = False
        self._held: deque[Any] = deque()  # events that wait until the backlog has room

    @property
    def over(self) -> bool:
        """Whether it will deliver nothing more."""
        return self.state in ("ended", "stopped")

    @property
    def begun(self) -> bool:
        """Whether its time has begun."""
        return self._loaded is not None

    def begin(self, loaded: Loaded, first_seq: int) -> None:
        """Start the first process: this camera's time begins now, a live one's a little later."""
        self._loaded = loaded
        self._first_seq = first_seq
        self._origin_mono_ns = time.monotonic_ns() + (round(LEAD_S * 1e9) if self.live else 0)
        self._dispatcher.add(
            self.name,
            origin_mono_ns=self._origin_mono_ns,
            first_seq=first_seq,
            paced=self.live or self._settings.realtime,
            live=self.live,
        )
        self._start(loaded)

    def take(self, message: Any) -> None:
        """Deal with what the process says, or put it by until there is room."""
        self.slot.heard()
        self._held.append(message)
        self.let_through()

    def let_through(self) -> None:
        """Deal with what was put by, as long as there is room for what it brings."""
        while self._held and (self._dispatcher.wants(self.name) or isinstance(self._held[0], Lost)):
            message = self._held.popleft()
            if self.slot.child is not None:
                self.slot.child.handled()
            if isinstance(message, Lost):
                self._lost()
            else:
                self._dispatcher.connected(self.name)
                self._heard(message)

    def watch(self) -> None:
        """Replace a process that is gone, and kill one that hangs; one that is held back is silent for a reason."""
        if self._loaded is None or self.over:
            return
        if self.slot.due():
            self._start(self._loaded)
        limit_s = SILENT_S if self.slot.spoken else START_S
        if not self._held and self.slot.kill_if_silent(limit_s):
            log.error("capture %s has been silent for %.0f s: it is killed", self.name, limit_s)

    def tune(self, gate: float | None) -> None:
        """Set the gate's threshold from the next clip on; None: every pair is sent."""
        if gate != self._gate:
            self._gate = gate
            if self.slot.child is not None:
                self.slot.child.send(Tune(gate))

    def stop(self) -> None:
        """Ask the process to end, and start no other."""
        if not self.over:
            self._is("stopped")
        if self.slot.child is not None:
            self.slot.child.send(Stop())

    def close(self, *, patience_s: float) -> None:
        """End the process."""
        if self.slot.child is not None:
            self.slot.child.close(patience_s=patience_s)
            self.slot.child = None

    def _start(self, loaded: Loaded) -> None:
        settings = self._settings
        job = CaptureJob(
            camera=self.name,
            source=settings.source,
            size_for=loaded.size_for,
            resize=loaded.resize,
            fps=self._clip.fps,
            seconds=self._clip.seconds,
            origin_mono_ns=self._origin_mono_ns,
            first_seq=self._first_seq,
            resume_tick=self._dispatcher.resume_tick(self.name),
            transport=settings.transport,
            timeout_s=settings.timeout_s,
            realtime=settings.realtime,
            loop=settings.loop,
            scale=settings.scale,
            gate=self._gate,
            stills=self._stills,
        )
        try:
            self.slot.started(Child(f"capture {self.name}", capture_main, job, self._inbox))
        except OSError as error:
            log.warning("capture %s cannot be started: %s", self.name, error)
            self._lost()

    def _heard(self, event: Any) -> None:
        match event:
            case Opened(source, size, _):
                self._opened = True
                self.size = size
                self._is("live")
                sizes = (source.width, source.height, size.width, size.height)
                log.info("camera %s: %dx%d, shown to the model at %dx%d", self.name, *sizes)
                self._dispatcher.opened(self.name, source)
            case PairReady(seq, pair):
                self.slot.fruitful = True
                if not self._dispatcher.paused(self.name):
                    self.latest = pair.frames[1], time.monotonic()
                self._carry_out(self._dispatcher.pair(self.name, seq, pair, self._now()))
            case Gated(seq, indices):
                self._carry_out(self._dispatcher.gated(self.name, seq, indices, self._now()))
            case Closed(seq, stats, still):
                self._carry_out(self._dispatcher.closed(self.name, seq, stats, self._now(), still=still))
            case Away():
                self._is("away")
            case Back():
                self._is("live")
            case Ended(reason):
                log.info("camera %s has ended: %s", self.name, reason)
                self._end("ended")
            case Fatal(error):
                self._failed(error)
            case Beat():
                pass

    def _failed(self, error: EdgeError) -> None:
        """Take the process's last words. A camera is tried for ever, but a file will not mend itself."""
        if self.live:
            log.warning("capture %s: %s", self.name, error.render())
        elif self._opened:
            log.error("camera %s is given up: %s", self.name, error.render())
            self._end("stopped")
        else:
            self._fail(error)

    def _lost(self) -> None:
        self._held.clear()
        how = self.slot.lost()
        if self.over:
            return
        log.warning("capture %s died (%s)", self.name, how)
        self._dispatcher.capture_lost(self.name)
        if self.live or self.slot.fruitless < FRUITLESS:
            self._is("away")
        elif not self._opened:
            self._fail(
                VideoError(
                    f"camera {self.name}: its file ends every process that reads it",
                    evidence=[f"the last of {FRUITLESS}: {how}"],
                    next_step="Look at the log above; give the video another encoding, or leave the camera out.",
                )
            )
        else:
            log.error("camera %s is given up: its file ended %d processes in a row", self.name, FRUITLESS)
            self._end("stopped")

    def _end(self, how: State) -> None:
        self._is(how)
        self._carry_out(self._dispatcher.finished(self.name, self._now()))

    def _is(self, state: State) -> None:
        if self.state != state:
            self.state = state
            self._changed()
