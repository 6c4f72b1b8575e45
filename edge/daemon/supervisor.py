"""The supervisor: starts, watches and replaces the processes, keeps ledger and outbox, and talks to the service manager.

One loop on one inbox: what the children say, what the clock says, signals. What to do is decided by
`edge.daemon.dispatch.Dispatcher`; here it is done. Frames travel capture -> supervisor -> inference in memory only.

    starting   the model loads; cameras start once it is there, and that is the beginning of the first clips
    running    until a signal, until every file has ended and is answered, or until an error that no restart mends
    stopping   captures end; the clip in hand gets a little time; the rest is announced as skipped
"""

from __future__ import annotations

import logging
import queue
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from edge.answer.prompts import prompts_from
from edge.config import Settings, cache_directory
from edge.daemon import health
from edge.daemon.alerts import NOTE, Alerts
from edge.daemon.cameras import Camera
from edge.daemon.children import Child, InferenceMain, Loaded, inference_main, log_to_stderr
from edge.daemon.dispatch import Dispatcher
from edge.daemon.effects import (
    Answered,
    Ask,
    Begin,
    ClipEnded,
    ClipOpened,
    ClockStepped,
    Effect,
    End,
    More,
    Unasked,
)
from edge.daemon.model import Model
from edge.daemon.operator import Operator
from edge.daemon.recording import Now
from edge.daemon.startup import checked, signals
from edge.daemon.steward import Steward
from edge.deliver.announcer import Announcer
from edge.deliver.mqtt import Publisher
from edge.deliver.outbox import ClipRow, Dropped, Outbox, Outgoing
from edge.deliver.topics import Topics
from edge.errors import EdgeError
from edge.host.notify import Notifier
from edge.host.sensors import SYS, clock_synced, rss_mib
from edge.messages import Answer, CameraHealth, Health
from edge.records import Still

PICTURE_BYTES = 256 << 10  # of a picture that is published
TURN_S = 0.5  # the loop turns at least so often
STOP_S = 5.0  # for the clip in hand, when the service is asked to stop
CLOSE_S = 3.0  # for the broker then
DRAIN_S = 10.0  # for the broker when all files have ended

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    *,
    inference: InferenceMain = inference_main,
    reread: Callable[[], Settings] | None = None,
    sys: Path = SYS,
) -> int:
    """Run the service until it is told to stop, or until all its files have ended and been answered.

    Takes over SIGTERM, SIGINT and SIGHUP (read the configuration anew), so it belongs into the main thread.

    Args:
        settings: The configuration.
        inference: What runs in the inference process; a module-level function.
        reread: Reads the configuration anew, for `reload`; None: it never changes.
        sys: Where the machine's sensors are found.

    Returns:
        0, the exit code of a clean end.

    Raises:
        EdgeError: It cannot start, or cannot go on: no restart would help.
    """
    log_to_stderr("edge")
    topics = checked(settings)
    with Outbox(settings.outbox_path(), max_bytes=settings.outbox.max_mib << 20) as outbox:
        supervisor = Supervisor(
            settings, topics, outbox, inference=inference, reread=reread or (lambda: settings), sys=sys
        )
        with signals(supervisor.inbox):
            supervisor.run()
    return 0


class Supervisor:
    """One run of the service; see the module's docstring.

    Args:
        settings: The configuration.
        topics: Where messages go.
        outbox: Ledger and queue, open.
        inference: What runs in the inference process.
        reread: Reads the configuration anew.
        sys: Where the machine's sensors are found.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        outbox: Outbox,
        *,
        inference: InferenceMain,
        reread: Callable[[], Settings],
        sys: Path,
    ) -> None:
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._settings = settings
        self._topics = topics
        self._outbox = outbox
        self._notifier = Notifier()
        self._dispatcher = Dispatcher(
            device=settings.device.id,
            epoch=outbox.epoch,
            seconds=settings.clip.seconds,
            fps=settings.clip.fps,
            prompts=prompts_from(settings),
            backlog=settings.backlog.clips,
        )
        self._cameras = [
            Camera(
                camera,
                settings.clip,
                settings.gate.level,
                self._dispatcher,
                self.inbox,
                carry_out=self._carry_out,
                now=self._now,
                fail=self._fail,
                changed=self._camera_changed,
                stills=settings.answers.key_frame_tokens > 0,
            )
            for camera in settings.camera
        ]
        self._publisher = Publisher(
            settings.mqtt,
            topics,
            outbox,
            client_id=f"edgeclip-{settings.device.id}",
        )
        self._alerts = Alerts(settings, topics, outbox.note(NOTE), self._publisher.retained)
        self._announcer = Announcer(settings, topics, self._publisher)
        self._operator = Operator(
            settings,
            topics,
            dispatcher=self._dispatcher,
            cameras=self._cameras,
            inbox=self.inbox,
            ready=lambda: self._ready,
            post=self._post,
            picture=self._publisher.telemetry,
            carry_out=self._carry_out,
            show=self._show,
            reread=reread,
            reconfigure=self._reconfigure,
            changed=self._report_soon,
        )
        self._steward = Steward(
            settings,
            self._dispatcher,
            self._cameras,
            cache_directory(),
            carry_out=self._carry_out,
            changed=self._report_soon,
            sys=sys,
        )
        if settings.commands.enabled:
            self._publisher.subscribe(topics.commands(), self._operator.arrived)
        self._model = Model(
            settings,
            inference,
            self.inbox,
            self._dispatcher,
            carry_out=self._carry_out,
            told=self._told,
            asked=self._operator.answered,
            ready=self._model_ready,
            lost=self._report_soon,
            fail=self._fail,
            stopping=lambda: self._stop_s is not None,
        )
        self._begun_s = time.monotonic()
        self._synced = clock_synced()
        self._second_s = 0.0  # when the slow part of a turn is due
        self._health_s = 0.0  # when the next health message is due
        self._stop_s: float | None = None  # until when a stopping service works on
        self._fatal: EdgeError | None = None
        self._still: Still | None = None  # key frame of the clip that the model answers

    def run(self) -> None:
        """Live through one run.

        Raises:
            EdgeError: What ended it, unless that was a signal or the end of all files.
        """
        now = datetime.now(UTC)
        for row in self._outbox.open_clips():
            self._end_clip(health.interrupted(row, now))
        self._post(self._alerts.begin(), self._alerts.notes())
        self._publisher.start()
        try:
            self._model.start()
            while not self._finished():
                self._turn()
            self._carry_out(self._dispatcher.abandon())
        finally:
            self._close()
        if self._fatal is not None:
            raise self._fatal

    # --- The loop ----------------------------------------------------------------------------------------------------

    @property
    def _ready(self) -> bool:
        return self._model.loaded is not None and self._stop_s is None

    def _finished(self) -> bool:
        if self._stop_s is not None:
            return self._dispatcher.settled or time.monotonic() >= self._stop_s
        return self._model.loaded is not None and self._dispatcher.all_ended and self._dispatcher.settled

    def _turn(self) -> None:
        with suppress(queue.Empty):
            self._take(*self.inbox.get(timeout=TURN_S))
        for camera in self._cameras:
            camera.let_through()
        if time.monotonic() >= self._second_s:
            self._second_s = time.monotonic() + TURN_S
            self._synced = clock_synced()
            self._announcer.tick()
            if self._stop_s is None:
                self._carry_out(self._dispatcher.tick(self._now()))
                self._steward.tick(self._now())
                self._model.watch()
                for camera in self._cameras:
                    camera.watch()
            if time.monotonic() >= self._health_s:
                self._report()
            if self._publisher.alive:  # nobody else would notice that delivery is dead
                self._notifier.watchdog()

    def _take(self, child: Child | None, message: Any) -> None:
        """Deal with one thing from the inbox; what a replaced child still said is dropped."""
        if child is None and message is signal.SIGHUP:
            self._reload()
        elif child is None and isinstance(message, signal.Signals):
            log.info("%s: stopping", message.name)
            self._stop(STOP_S)
        elif child is None:
            self._operator.take(message)
        elif child is self._model.slot.child:
            self._model.take(message)
        else:
            for camera in self._cameras:
                if child is camera.slot.child:
                    camera.take(message)

    def _reload(self) -> None:
        """Read the configuration anew because of a signal."""
        if self._ready:  # before and after that the service manager is told otherwise
            self._notifier.reloading()
        self._operator.reload()
        if self._ready:
            self._notifier.ready()

    def _now(self) -> Now:
        return Now(time.monotonic_ns(), time.time_ns(), self._synced)

    # --- Inference ---------------------------------------------------------------------------------------------------

    def _told(self, answer: Answer) -> Answer:
        return self._steward.answered(answer, self._now())

    def _model_ready(self, loaded: Loaded, first: bool) -> None:  # noqa: FBT001  # a callback's argument
        """Start the cameras, the first time: that is when time begins."""
        self._steward.loaded(loaded, self._now())
        if first and self._stop_s is None:
            for camera in self._cameras:
                camera.begin(loaded, self._outbox.next_seq(camera.name))
            self._operator.begin()
            self._notifier.ready()
            self._report_soon()

    # --- What is to be done ------------------------------------------------------------------------------------------

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case ClipOpened():
                    self._outbox.open_clip(
                        ClipRow(
                            clip_id=effect.clip_id,
                            camera=effect.camera,
                            seq=effect.seq,
                            t_start=effect.t_start.isoformat(),
                            seconds=effect.seconds,
                            clock_synced=effect.clock_synced,
                        )
                    )
                case Answered(answer):
                    self._tell_dropped(
                        self._outbox.answer(answer.clip_id, answer.prompt, *self._answer(answer))
                    )
                    self._publisher.wake()
                case ClipEnded():
                    self._end_clip(effect)
                case ClockStepped(camera, step_s):
                    log.warning("camera %s: the wall clock was set by %+.3f s", camera, step_s)
                case Unasked():
                    self._operator.unasked(effect)
                case Begin() | More() | End() | Ask():
                    self._model.give(effect)
                    if isinstance(effect, End):
                        self._still = effect.still
                    if isinstance(effect, Begin):
                        self._steward.begin([child.pid for child in self._children], self._now())

    @property
    def _children(self) -> list[Child]:
        slots = (self._model.slot, *(camera.slot for camera in self._cameras))
        return [slot.child for slot in slots if slot.child is not None]

    def _post(self, messages: Sequence[Outgoing], notes: Mapping[str, str] | None = None) -> None:
        self._tell_dropped(self._outbox.add(messages, notes))
        self._publisher.wake()

    def _show(self, answer: Answer) -> None:
        """Make an answer's headline the state of its camera."""
        self._publisher.retained(self._topics.state(answer.camera), health.state(answer).payload())

    def _reconfigure(self, settings: Settings) -> None:
        """Go on with other settings, which differ in what needs no restart."""
        self._settings = settings
        self._post(self._alerts.reconfigure(settings.watch), self._alerts.notes())
        self._dispatcher.reconfigure(prompts_from(settings), backlog=settings.backlog.clips)
        self._steward.reconfigure(settings)
        self._announcer.reconfigure(settings)
        self._report_soon()

    def _answer(self, answer: Answer) -> tuple[list[Outgoing], dict[str, str]]:
        """Return what goes out of an answer, alerts included, and what is noted with it.

        The first prompt's headline is the camera's state.
        """
        if answer.prompt == self._settings.prompt[0].name:
            self._show(answer)
        self._show_places(answer)
        message = health.answer_message(self._topics.answer(answer.camera, answer.prompt), answer)
        if not answer.watches:
            return [message], {}
        return [message, *self._alerts.take(answer)], self._alerts.notes()

    def _show_places(self, answer: Answer) -> None:
        """Publish the key frame that an answer's boxes refer to, where the operator lets it leave the device."""
        still, shown = self._still, answer.key_frame
        if answer.kind != "spatial" or still is None or shown is None or not self._settings.privacy.annotated:
            return
        if round(still.time_s, 3) == shown.time:  # it is this clip's
            from edge.answer.picture import annotated

            picture = annotated(
                still.rgb, answer.objects, answer.relations, form="jpeg", max_bytes=PICTURE_BYTES
            )
            self._publisher.telemetry(self._topics.annotated(answer.camera), picture)

    def _tell_dropped(self, dropped: Sequence[Dropped]) -> None:
        """Log what a full outbox cost; the publisher announces it, and the health message counts it."""
        if dropped:
            log.warning("the outbox is full: %d of the oldest messages were dropped", len(dropped))
            self._report_soon()

    def _end_clip(self, end: ClipEnded) -> None:
        messages: list[Outgoing] = []
        notes: dict[str, str] = {}
        self._steward.ended(end)
        if end.answer is not None:
            messages, notes = self._answer(end.answer)
        else:
            topic = self._topics.skipped(end.camera)
            messages.append(health.skipped_message(topic, health.skipped(self._settings.device.id, end)))
        self._tell_dropped(self._outbox.commit(end.clip_id, end.outcome, end.seconds, messages, notes))
        self._publisher.wake()
        level = logging.INFO if end.outcome == "answered" else logging.WARNING
        why = "".join(f": {word}" for word in (end.reason, end.detail) if word)
        log.log(level, "camera %s: clip %d is %s%s", end.camera, end.seq, end.outcome, why)

    # --- Reporting ---------------------------------------------------------------------------------------------------

    def _report_soon(self) -> None:
        self._health_s = 0.0

    def _camera_changed(self) -> None:
        self._report_soon()
        if self._stop_s is None:
            self._steward.look(self._now())  # a camera's size decides what its first clip may cost

    def _report(self) -> None:
        """Publish the health message, and the line for the service manager."""
        self._health_s = time.monotonic() + self._settings.health.every_s
        message = self._health()
        self._publisher.retained(self._topics.health(), message.payload())
        self._notifier.status(health.status_line(message.coverage, waiting=message.outbox_pending))

    def _health(self) -> Health:
        rows = self._outbox.coverage()
        missing = {
            camera.name: self._dispatcher.missing_s(camera.name, self._now()) for camera in self._cameras
        }
        return health.health(
            device=self._settings.device.id,
            synced=self._synced,
            uptime_s=time.monotonic() - self._begun_s,
            loaded=self._model.loaded,
            total=health.coverage(rows.values(), missing_s=sum(missing.values())),
            cameras=[
                CameraHealth(
                    camera=camera.name,
                    state=camera.state,
                    clips_in_hand=self._dispatcher.clips_in_hand(camera.name),
                    restarts=camera.slot.restarts,
                    coverage=health.coverage(
                        [rows[camera.name]] if camera.name in rows else [], missing_s=missing[camera.name]
                    ),
                    paused=self._operator.paused(camera.name),
                    rung=self._steward.rung(camera.name),
                )
                for camera in self._cameras
            ],
            engine=self._engine_state(),
            engine_restarts=self._model.slot.restarts,
            waiting=self._outbox.stats(),
            trouble=self._outbox.degraded or self._outbox.notice,
            commands=self._operator.totals(),
            rss=rss_mib() + sum(rss_mib(child.pid) for child in self._children),
            temperature_c=self._steward.temperature_c,
            governor=self._steward.health(),
        )

    def _engine_state(self) -> Literal["starting", "idle", "busy", "stopped"]:
        if self._model.slot.child is None and (self._stop_s is not None or self._finished()):
            return "stopped"
        if not self._model.speaks:
            return "starting"
        return "busy" if self._dispatcher.busy else "idle"

    # --- The end -----------------------------------------------------------------------------------------------------

    def _fail(self, error: EdgeError) -> None:
        """End the service because of an error; the first one counts."""
        self._fatal = self._fatal or error
        self._stop(0.0)

    def _stop(self, within_s: float) -> None:
        """End recording; what the model works on gets a little time, and none when it is asked again."""
        if self._stop_s is not None:
            self._stop_s = time.monotonic()
            return
        self._stop_s = time.monotonic() + within_s
        self._notifier.stopping()
        for camera in self._cameras:
            camera.stop()
        self._carry_out(self._dispatcher.stop(self._now()))

    def _close(self) -> None:
        """End the children, publish what can be published, and leave nothing behind."""
        self._notifier.stopping()
        for camera in self._cameras:
            camera.stop()
        self._model.close()
        for camera in self._cameras:
            camera.close(patience_s=1.0)
        self._steward.save()
        self._publisher.close(
            DRAIN_S if self._stop_s is None else CLOSE_S,
            last=lambda: {
                self._topics.health(): self._health().payload()
            },  # it stays, so it must count right
        )
        self._notifier.close()
