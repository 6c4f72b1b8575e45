"""The loop of a capture process: a source in, pairs and ends of clips out, for as long as anybody wants them.

A live source is paced by the monotonic clock: its clips are closed on time whether pictures come or not, and it is
opened again for ever. A file is paced by its own times, in real time or as fast as the receiver takes pairs.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace

from edge.capture.address import kind_of, masked
from edge.capture.backoff import Backoff
from edge.capture.clip import NS, Chosen, Done, Grid, Sampler
from edge.capture.clock import LATE_LIMIT_NS, ArrivalClock
from edge.capture.events import (
    Away,
    Back,
    Beat,
    CaptureEvent,
    CaptureJob,
    Closed,
    Ended,
    Gated,
    Opened,
    PairReady,
)
from edge.capture.picture import Converter, Decoded
from edge.capture.playback import Playback
from edge.capture.reader import Reader
from edge.capture.sieve import Sieve
from edge.capture.source import END_OF_FILE, NO_PICTURE_S, Source
from edge.errors import CameraLostError
from edge.records import Pair, Size

__all__ = ["CaptureJob", "run_capture"]

BEAT_S = 1.0
POLL_S = 0.1  # how often the clock and ``stop`` are looked at while nothing comes
STOP_S = 2.0  # how long a reader may take to end
STEADY_S = 10.0  # a camera that delivered for so long has recovered, and its next loss is a new one

log = logging.getLogger(__name__)


def run_capture(
    job: CaptureJob,
    send: Callable[[CaptureEvent], None],
    stop: Callable[[], bool],
    *,
    gate: Callable[[], float | None] | None = None,
) -> None:
    """Sample a source until ``stop`` says so or a file that does not loop has ended.

    Args:
        job: What to do.
        send: Takes the events, in order, all from this thread; it may block, which holds a file back.
        stop: Asked at least every `POLL_S` seconds, other than while ``send`` blocks. The clip in hand is then
            left open.
        gate: The threshold of the gate, asked at the beginning of every clip; None: the job's own for ever.

    Raises:
        VideoError: A file cannot be read. (A camera that cannot be is `Away` and is tried again.)
        CameraLostError: The reader is stuck in a call that nothing but the end of this process can end.
    """
    ticks = round(job.seconds * job.fps)
    if ticks < 1 or abs(ticks - job.seconds * job.fps) > 1e-6:
        raise ValueError(f"{job.seconds} s x {job.fps} FPS is no whole number of ticks")
    live = kind_of(job.source) != "file"
    outlet = _Outlet(job, Grid(job.fps, ticks), send, stop, gate or (lambda: job.gate), live=live)
    if outlet.live:
        _run_live(job, outlet)
    else:
        _run_file(job, outlet)


class _Outlet:
    """The grid of one run and the way out: converts what the sampler chose and sends it."""

    def __init__(
        self,
        job: CaptureJob,
        grid: Grid,
        send: Callable[[CaptureEvent], None],
        stop: Callable[[], bool],
        gate: Callable[[], float | None],
        *,
        live: bool,
    ) -> None:
        self.live = live
        self.stopped = stop
        self.send = send
        self._job = job
        self._sampler: Sampler[Decoded] = Sampler(
            grid, first_tick=job.resume_tick, hold_ns=round(job.timeout_s * NS) if live else None
        )
        self._gate = gate
        self._sieve = Sieve(
            Converter(job.scale, job.resize),
            fps=job.fps,
            ticks=grid.ticks_per_clip,
            gate=gate(),
            stills=job.stills,
        )
        self._announced: Size | None = None  # source size of the latest Opened
        self._source_size: Size | None = None  # of the newest picture
        self._size = Size(0, 0)
        self._seq = job.first_seq  # of the newest pair
        self._work_s = 0.0
        self._beat_at = 0.0
        self._dropping = False

    @property
    def begin_ns(self) -> int:
        """Time of the first tick that is still to be decided."""
        return self._sampler.next_ns

    def now_ns(self) -> int:
        """Return the time since the first tick of the first clip."""
        return time.monotonic_ns() - self._job.origin_mono_ns

    def beat(self) -> None:
        """Send a `Beat` if it is time for one."""
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + BEAT_S
            self._tell_gated()
            self.send(Beat())

    def offer(self, at_ns: int, picture: Decoded) -> None:
        """Put a picture on the grid at a time since the first tick."""
        self._work_s += picture.cost_s
        self._source_size = picture.size
        if self._announced is None:
            self._open(picture.size)
        self._emit(self._sampler.offer(at_ns, picture))

    def advance(self, to_ns: int) -> None:
        """Let time pass."""
        self._emit(self._sampler.advance(to_ns))

    def away(self) -> None:
        """Let the last picture stand no longer."""
        self._sampler.away(self.now_ns())

    def finish(self, end_ns: int) -> None:
        """Close the last clip of a file."""
        self._emit(self._sampler.finish(end_ns))

    def dropped(self, pictures: int) -> None:
        """Count pictures that the reader had to drop; told once per spell."""
        self._sampler.skipped(pictures)
        if pictures and not self._dropping:
            log.warning("camera %s: pictures come faster than they can be taken", self._job.camera)
        self._dropping = bool(pictures)

    def _open(self, source_size: Size) -> None:
        self._announced = source_size
        self._size = self._job.size_for(source_size)
        self.send(Opened(source_size, self._size, self.live))

    def _emit(self, steps: list[Chosen[Decoded] | Done]) -> None:
        for step in steps:
            if self.stopped():
                return
            seq = self._job.first_seq + step.clip
            started = time.perf_counter()
            if isinstance(step, Chosen):
                self._seq = seq
                pairs = self._sieve.pairs(step, self._size)
                self._work_s += time.perf_counter() - started
                self._deliver(pairs)
            else:
                pairs, gated, threshold = self._sieve.end()
                self._work_s += time.perf_counter() - started
                self._deliver(pairs)
                self._tell_gated()
                stats = replace(step.stats, decode_s=self._work_s, pairs_gated=gated, gate=threshold)
                self.send(Closed(seq, stats, self._sieve.still()))
                self._work_s = 0.0
                self._sieve.threshold = self._gate()
                # A clip keeps its size; the next one may have another.
                if self._source_size is not None and self._source_size != self._announced:
                    self._open(self._source_size)
            self.beat()

    def _deliver(self, pairs: list[Pair]) -> None:
        for pair in pairs:
            self._tell_gated(before=pair.index)
            self.send(PairReady(self._seq, pair))

    def _tell_gated(self, *, before: int | None = None) -> None:
        dropped = self._sieve.dropped(before=before)
        if dropped:
            self.send(Gated(self._seq, dropped))


def _run_live(job: CaptureJob, outlet: _Outlet) -> None:
    name = masked(job.source)
    # Opening has time-outs of its own: to connect, to probe, and then for the first key frame.
    opening_s = 3 * job.timeout_s
    stuck_s = opening_s + NO_PICTURE_S
    backoff = Backoff(random.Random())  # noqa: S311  # jitter, no secret
    reader: Reader | None = None
    clock = ArrivalClock()
    away = False
    retry_at = 0.0
    steady_since = 0.0  # first picture of this reader; 0 before it
    heard_at = time.monotonic()

    def lose(reason: str) -> None:
        nonlocal away
        if not away:
            away = True
            log.warning("camera %s is away: %s", job.camera, reason)
            outlet.away()
            outlet.send(Away(reason))

    try:
        while not outlet.stopped():
            now = time.monotonic()
            if reader is None and now >= retry_at:
                reader, clock = Reader(job), ArrivalClock()
                heard_at, steady_since = now, 0.0
            picture = None
            if reader is None:
                time.sleep(min(POLL_S, retry_at - now))
            else:
                try:
                    picture = reader.mailbox.get(POLL_S)
                except CameraLostError as error:
                    lose("; ".join((error.what, *error.evidence)))
                    reader.stop(STOP_S)
                    reader = None
                    retry_at = time.monotonic() + backoff.next_s()
                else:
                    outlet.dropped(reader.mailbox.dropped())
            now = time.monotonic()
            if picture is not None:
                heard_at = now
                steady_since = steady_since or now
                if now - steady_since > STEADY_S:
                    backoff.reset()
                if away:
                    away = False
                    log.warning("camera %s is back", job.camera)
                    outlet.send(Back())
                outlet.offer(clock.time_ns(picture.pts_ns, picture.arrival_ns) - job.origin_mono_ns, picture)
            else:
                if reader is not None and now - heard_at > (job.timeout_s if steady_since else opening_s):
                    lose(f"the camera {name} sends no picture")
                if reader is not None and now - heard_at > stuck_s:
                    raise CameraLostError(
                        f"reading the camera {name} is stuck",
                        evidence=[f"no answer from its driver for {now - heard_at:.0f} s"],
                        next_step="Start the capture process again.",
                    )
                # A picture that is still on its way may belong before now, unless there is none.
                outlet.advance(outlet.now_ns() - (0 if away else LATE_LIMIT_NS))
            outlet.beat()
    finally:
        if reader is not None:
            reader.stop(STOP_S)


def _run_file(job: CaptureJob, outlet: _Outlet) -> None:
    begin_ns = outlet.begin_ns  # not 0 after a restart
    pass_ns = 0  # where this pass through the file begins on the grid
    while True:
        with Playback(job.source) as playback:
            for at_ns, picture in playback.pictures(max(0, begin_ns - pass_ns)):
                _wait(job, outlet, pass_ns + at_ns)
                if outlet.stopped():
                    return
                outlet.offer(pass_ns + at_ns, picture)
                outlet.beat()
            length_ns = playback.end_ns
            ended = _ending(playback.source)
        if not job.loop:
            break
        # The next pass begins where this one ended; after a restart, straight to the one in which the run goes on.
        pass_ns = max(pass_ns + length_ns, begin_ns // length_ns * length_ns)
    _wait(job, outlet, pass_ns + length_ns)
    if not outlet.stopped():
        outlet.finish(pass_ns + length_ns)
        outlet.send(Ended(ended))


def _wait(job: CaptureJob, outlet: _Outlet, until_ns: int) -> None:
    """In real time, wait for a picture's moment; ticks before it are decided on time, as none comes earlier."""
    while job.realtime and not outlet.stopped():
        now_ns = outlet.now_ns()
        outlet.advance(min(now_ns, until_ns))
        outlet.beat()
        if now_ns >= until_ns:
            return
        time.sleep(min(POLL_S, (until_ns - now_ns) / NS))


def _ending(source: Source) -> str:
    if source.damaged or source.ended != END_OF_FILE:
        log.warning("%s: %s, %d damaged packets left out", source.name, source.ended, source.damaged)
    return f"{source.ended}, {source.damaged} damaged packets left out" if source.damaged else source.ended
