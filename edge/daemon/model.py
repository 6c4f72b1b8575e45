"""The inference process: started, heard, given work, and replaced, as `edge.daemon.cameras` does for captures."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Sequence
from typing import Any

from edge.config import Settings, cache_directory
from edge.daemon.children import (
    AnswerReady,
    Asked,
    Child,
    ClipFailed,
    Fatal,
    Idle,
    InferenceJob,
    InferenceMain,
    Loaded,
    Lost,
    NeedPairs,
)
from edge.daemon.dispatch import Dispatcher
from edge.daemon.effects import Ask, Begin, Effect, End, More
from edge.daemon.slots import Slot
from edge.errors import BundleError, EdgeError, ModelError
from edge.messages import Answer

SILENT_S = 300.0  # one step of the model takes less on the slowest machine
LOAD_S = 600.0  # and so does hashing a bundle on a slow card, and loading it
FRUITLESS = 5  # processes in a row that die while they load the model for the first time

log = logging.getLogger(__name__)


class Model:
    """The place of the inference process.

    Args:
        settings: The configuration.
        main: What runs in the process.
        inbox: Where it is heard.
        dispatcher: Decides; what it wants done goes to ``carry_out``.
        carry_out: Does what the dispatcher wants done.
        told: Returns an answer with what the service knows beside it.
        asked: Told of the answer to a question.
        ready: Told that the model is loaded, and whether for the first time.
        lost: Told that a process is gone while the service goes on.
        fail: Told of what no restart mends.
        stopping: Whether the service is being stopped.
    """

    def __init__(
        self,
        settings: Settings,
        main: InferenceMain,
        inbox: queue.SimpleQueue[Any],
        dispatcher: Dispatcher,
        *,
        carry_out: Callable[[Sequence[Effect]], None],
        told: Callable[[Answer], Answer],
        asked: Callable[[Asked], None],
        ready: Callable[[Loaded, bool], None],
        lost: Callable[[], None],
        fail: Callable[[EdgeError], None],
        stopping: Callable[[], bool],
    ) -> None:
        self.slot = Slot()
        self.loaded: Loaded | None = None
        clip, commands = settings.clip, settings.commands
        self._job = InferenceJob(
            bundle=settings.bundle.path,
            cache=cache_directory(),
            threads=settings.engine.threads,
            device=settings.device.id,
            ticks=round(clip.seconds * clip.fps),
            keep_clips=commands.keep_clips if commands.enabled else 0,
            keep_bytes=commands.keep_mib << 20,
            ask_tokens=commands.max_tokens if commands.enabled else 0,
        )
        self._main = main
        self._inbox = inbox
        self._dispatcher = dispatcher
        self._carry_out = carry_out
        self._told = told
        self._asked = asked
        self._ready = ready
        self._lost_one = lost
        self._fail = fail
        self._stopping = stopping
        self._waits = False  # for us, so its silence means nothing

    @property
    def speaks(self) -> bool:
        """Whether a process is there that has loaded the model."""
        return self.loaded is not None and self.slot.child is not None and self.slot.spoken

    def start(self) -> None:
        """Start a process."""
        self._waits = False
        try:
            self.slot.started(Child("inference", self._main, self._job, self._inbox))
        except OSError as error:
            log.warning("inference cannot be started: %s", error)
            self._lost()

    def give(self, effect: Begin | More | End | Ask) -> None:
        """Give the process what it asked for."""
        if self.slot.child is not None:
            self._waits = False
            self.slot.heard_s = time.monotonic()
            self.slot.child.send(effect)

    def watch(self) -> None:
        """Start again what is due, and kill what hangs."""
        if self.slot.due():
            self.start()
        limit_s = SILENT_S if self.slot.spoken else LOAD_S
        if not self._waits and self.slot.kill_if_silent(limit_s):
            log.error("inference has made no progress for %.0f s: it is killed", limit_s)

    def close(self) -> None:
        """End the process."""
        if self.slot.child is not None:
            self.slot.child.close()
            self.slot.child = None

    def take(self, message: Any) -> None:
        """Deal with what the process says."""
        if self.slot.child is not None:
            self.slot.child.handled()
        self.slot.heard()
        self._waits = isinstance(message, (Idle, NeedPairs))
        match message:
            case Loaded():
                first, self.loaded = self.loaded is None, message
                note = f" ({message.note})" if message.note else ""
                log.info("the model %s is loaded%s", message.model, note)
                self._ready(message, first)
            case Idle():
                self._carry_out(self._dispatcher.model_ready())
            case NeedPairs():
                self._carry_out(self._dispatcher.need_pairs())
            case AnswerReady(answer):
                self.slot.fruitful = True
                self._carry_out(self._dispatcher.answered(self._told(answer)))
            case Asked():
                self.slot.fruitful = True
                self._dispatcher.asked()
                self._asked(message)
            case ClipFailed(detail):
                log.error("the model failed on a clip: %s", detail)
                self._carry_out(self._dispatcher.model_failed(detail))
            case Fatal(error):
                # A bundle does not mend itself, and what never loaded never will.
                if self.loaded is None or isinstance(error, BundleError):
                    self._fail(error)
                else:
                    log.error("inference: %s", error.render())
            case Lost():
                self._lost()

    def _lost(self) -> None:
        how = self.slot.lost()
        self._carry_out(self._dispatcher.model_lost(f"the inference process died ({how})"))
        if self._stopping():
            return
        log.error("inference died (%s)", how)
        self._lost_one()
        if self.loaded is None and self.slot.fruitless >= FRUITLESS:
            self._fail(
                ModelError(
                    f"the inference process died {FRUITLESS} times before the model was loaded",
                    evidence=[f"the last time: {how}"],
                    next_step="Look for the kernel's out-of-memory messages, or take a smaller bundle.",
                )
            )
