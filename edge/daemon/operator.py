"""Carries out what operators ask for over MQTT; every command gets one reply.

What the broker delivers is checked in the publisher's thread and carried out in the supervisor's loop. Replies go
through the outbox; only the refusal of what came beyond the rate is sent at once and not kept, so that a flood costs
neither disk nor memory.
"""

from __future__ import annotations

import io
import logging
import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from edge.answer.given import take
from edge.answer.prompts import for_camera, prompt_from, prompts_from
from edge.config import PromptSettings, Settings
from edge.daemon.cameras import Camera
from edge.daemon.children import Asked
from edge.daemon.dispatch import Dispatcher
from edge.daemon.effects import Ask, Effect, Unasked
from edge.daemon.paused import PausedFile
from edge.deliver.commands import Incoming, Intake, Refusal, Request
from edge.deliver.outbox import Outgoing
from edge.deliver.topics import Topics
from edge.errors import EdgeError, SchemaError
from edge.messages import Answer, CommandTotals, RefusalReason

PROBLEMS_MAX = 20
PROBLEM_CHARS = 200
JPEG_QUALITY = 85
LIVE = ("prompt", "watch", "gate", "backlog", "health", "commands.per_minute", "privacy")
"""What a reload can change without a restart."""

log = logging.getLogger(__name__)


class Operator:
    """One for the life of the service.

    Args:
        settings: The configuration.
        topics: Where things go.
        dispatcher: Decides about clips.
        cameras: All cameras.
        inbox: Of the supervisor; commands are put there with no child.
        ready: Says whether the model is there and the service is not stopping.
        post: Puts messages into the outbox.
        picture: Publishes at QoS 0, not retained, and never on disk.
        carry_out: Does what the dispatcher wants done.
        show: Makes an answer's headline the state of its camera.
        reread: Reads the configuration anew.
        reconfigure: Goes on with other settings, of which only `LIVE` differ.
        changed: Told when the health message has something new to say.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        *,
        dispatcher: Dispatcher,
        cameras: Sequence[Camera],
        inbox: queue.SimpleQueue[Any],
        ready: Callable[[], bool],
        post: Callable[[Sequence[Outgoing]], None],
        picture: Callable[[str, bytes], None],
        carry_out: Callable[[Sequence[Effect]], None],
        show: Callable[[Answer], None],
        reread: Callable[[], Settings],
        reconfigure: Callable[[Settings], None],
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._dispatcher = dispatcher
        self._cameras = {camera.name: camera for camera in cameras}
        self._inbox = inbox
        self._ready = ready
        self._post = post
        self._picture = picture
        self._carry_out = carry_out
        self._show = show
        self._reread = reread
        self._reconfigure = reconfigure
        self._changed = changed
        self._intake = Intake(
            topics,
            device=settings.device.id,
            cameras=tuple(self._cameras),
            per_minute=settings.commands.per_minute,
            now_s=time.monotonic(),
        )
        self._pending: dict[str, Request] = {}  # that the model is asked, by key
        self._lock = threading.Lock()  # guards the counts
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[RefusalReason] = Counter()
        self._file = PausedFile(settings.outbox_path())
        self._paused, trouble = self._file.read(tuple(self._cameras))
        if trouble:
            log.error("%s", trouble)

    # --- in the publisher's thread ---

    def arrived(self, incoming: Incoming) -> Outgoing | None:
        """Check what came; return what is to be said at once."""
        checked = self._intake.take(incoming, time.monotonic())
        if isinstance(checked, Refusal) and checked.reason == "rate_limited":
            self._count("refused", checked.reason)
            return checked.reply
        self._inbox.put((None, checked))
        return None

    # --- in the supervisor's loop ---

    def begin(self) -> None:
        """The cameras have begun: pause those that were paused when the service ended."""
        for name in sorted(self._paused):
            self._dispatcher.pause(name)
            log.warning("camera %s is still paused", name)

    def paused(self, camera: str) -> bool:
        """Whether a camera is paused."""
        return camera in self._paused

    def totals(self) -> CommandTotals:
        """Return how commands were answered so far."""
        with self._lock:
            return CommandTotals(
                done=self._counts["done"],
                failed=self._counts["failed"],
                refused=self._counts["refused"],
                reasons={str(reason): count for reason, count in self._reasons.items()},
            )

    def take(self, checked: Request | Refusal) -> None:
        """Carry out a command, or deliver its refusal."""
        if isinstance(checked, Refusal):
            self._count("refused", checked.reason)
            self._post([checked.reply])
            return
        match checked.verb:
            case "ask":
                self._ask(checked)
            case "analyse-now":
                self._analyse(checked)
            case "pause" if checked.command.paused is not False:
                self._pause(checked)
            case "pause" | "resume":
                self._resume(checked)
            case "reload":
                self._reload(checked)
            case "snapshot":
                self._snapshot(checked)

    def reload(self) -> None:
        """Read the configuration anew because of a signal; what comes of it is logged."""
        try:
            applied, restart_needed = self._read_anew()
        except EdgeError as error:
            log.warning("the configuration is not taken over, and nothing was changed: %s", error.render())
            return
        log.info("the configuration was read again; applied: %s", ", ".join(applied) or "nothing has changed")
        if restart_needed:
            log.warning(
                "these sections have changed, and hold after a restart: %s", ", ".join(restart_needed)
            )

    def answered(self, asked: Asked) -> None:
        """Take what became of a question."""
        request = self._pending.pop(asked.key, None)
        if request is None:  # given up in the meantime
            return
        waited_s = max(0.0, asked.begun_mono_ns / 1e9 - request.received_s)
        if asked.no_clip:
            self._refuse(request, "no_clip", asked.failure)
        elif asked.failure:
            self._reply(request, "failed", detail=asked.failure, waited_s=waited_s)
        else:
            if request.verb == "analyse-now":
                self._show(asked.answers[0])
            self._reply(request, "done", answers=asked.answers, waited_s=waited_s)

    def unasked(self, effect: Unasked) -> None:
        """Take that a question will not be answered."""
        request = self._pending.pop(effect.key, None)
        if request is not None:
            self._reply(request, "failed", detail=effect.detail)

    # --- the verbs ---

    def _ask(self, request: Request) -> None:
        command = request.command
        try:
            given = None if command.answer_schema is None else take(command.answer_schema)
        except SchemaError as error:
            self._refuse(request, "bad_schema", "; ".join(error.evidence))
            return
        prompt = prompt_from(
            PromptSettings(
                name="ask",
                kind="ask",
                text=command.question or "",
                max_tokens=self._settings.commands.max_tokens,
            ),
            self._settings.answers,
            given,
        )
        key = str(uuid.uuid4())
        self._put(request, Ask(key, request.cameras[0], command.clip, (prompt,)))

    def _analyse(self, request: Request) -> None:
        """Ask the operator's prompts of what was seen so far.

        The clip itself goes on and is answered at its end as ever: the grid, the ledger and the topics of answers, with
        one answer per clip and prompt, know nothing of this. So what is said now goes into the reply, and the headline
        into the camera's state.
        """
        camera = request.cameras[0]
        if self.paused(camera):
            self._refuse(request, "paused", "the camera is paused")
            return
        prompts = for_camera(prompts_from(self._settings), camera)
        self._put(request, Ask(str(uuid.uuid4()), camera, "current", prompts))

    def _put(self, request: Request, ask: Ask) -> None:
        if not self._ready():
            self._refuse(request, "not_ready", "the model is loading, or the service is stopping")
        elif self._dispatcher.questions_full:
            self._refuse(request, "busy", "as many questions wait as may wait")
        else:
            self._pending[ask.key] = request
            self._carry_out(self._dispatcher.ask(ask))

    def _pause(self, request: Request) -> None:
        for name in request.cameras:
            self._cameras[name].latest = None
            if self._cameras[name].begun:
                self._dispatcher.pause(name)
        self._remember(request, self._paused.union(request.cameras))

    def _resume(self, request: Request) -> None:
        for name in request.cameras:
            if self._cameras[name].begun:
                self._dispatcher.resume(name)
        self._remember(request, self._paused.difference(request.cameras))

    def _remember(self, request: Request, paused: set[str]) -> None:
        self._paused = paused
        self._changed()  # a switch shows what health says
        trouble = self._file.write(paused)
        detail = f"it will not survive a restart: {trouble}" if trouble else ""
        if trouble:
            log.error("which cameras are paused cannot be written: %s", trouble)
        self._reply(request, "done", detail=detail)

    def _reload(self, request: Request) -> None:
        try:
            applied, restart_needed = self._read_anew()
        except EdgeError as error:
            problems = [line[:PROBLEM_CHARS] for line in (error.what, *error.evidence)]
            self._reply(
                request, "failed", detail="nothing was changed", problems=tuple(problems[:PROBLEMS_MAX])
            )
            return
        self._reply(request, "done", applied=applied, restart_needed=restart_needed)

    def _read_anew(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Read the configuration and apply what can be; return the sections that hold now, and those that will.

        Raises:
            EdgeError: Something is wrong with it; nothing was changed.
        """
        fresh = self._reread()
        changed = _differing(self._settings, fresh)
        applied = tuple(name for name in changed if name in LIVE)
        self._settings = self._settings.model_copy(
            update={
                "prompt": fresh.prompt,
                "watch": fresh.watch,
                "gate": fresh.gate,
                "backlog": fresh.backlog,
                "health": fresh.health,
                "privacy": fresh.privacy,
                "commands": self._settings.commands.model_copy(
                    update={"per_minute": fresh.commands.per_minute}
                ),
            }
        )
        if "commands.per_minute" in applied:
            self._intake.limit(fresh.commands.per_minute, time.monotonic())
        self._reconfigure(self._settings)
        return applied, tuple(name for name in changed if name not in LIVE)

    def _snapshot(self, request: Request) -> None:
        camera = self._cameras[request.cameras[0]]
        if not self._settings.privacy.snapshots:
            self._refuse(request, "not_allowed", "the configuration says [privacy] snapshots = false")
        elif self.paused(camera.name):
            self._refuse(request, "paused", "the camera is paused")
        elif camera.latest is None:
            self._refuse(request, "no_picture", "no picture has come from the camera yet")
        else:
            from PIL import Image

            picture, seen_s = camera.latest
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
            self._picture(self._topics.image(camera.name), buffer.getvalue())
            age_s = time.monotonic() - seen_s
            self._reply(request, "done", detail=f"the picture is {age_s:.1f} s old")

    # --- replies ---

    def _refuse(self, request: Request, reason: RefusalReason, detail: str) -> None:
        self._reply(request, "refused", reason=reason, detail=detail)

    def _reply(
        self, request: Request, status: str, *, reason: RefusalReason | None = None, **more: Any
    ) -> None:
        self._count(status, reason)
        log.info("command %s: %s", request.verb, reason or status)
        camera = request.cameras[0] if len(request.cameras) == 1 and request.verb != "reload" else ""
        reply = self._intake.reply(
            request.sender, request.verb, status=status, camera=camera, reason=reason, **more
        )
        self._post([reply])

    def _count(self, status: str, reason: RefusalReason | None) -> None:
        with self._lock:
            self._counts[status] += 1
            if reason is not None:
                self._reasons[reason] += 1


def _differing(old: Settings, fresh: Settings) -> list[str]:
    """Return the sections that differ; of ``[commands]`` the keys."""
    names = [
        name
        for name in Settings.model_fields
        if name != "commands" and getattr(old, name) != getattr(fresh, name)
    ]
    keys = type(old.commands).model_fields
    return names + [
        f"commands.{key}" for key in keys if getattr(old.commands, key) != getattr(fresh.commands, key)
    ]
