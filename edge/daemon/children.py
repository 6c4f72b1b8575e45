"""The processes beside the supervisor: what runs in them, what they say, and the pipe to each.

A capture process sends the events of `edge.capture.events`; the inference process asks for its work. Either may die or
hang at any moment: `Child` reads and writes in threads of its own, so that nothing a child does holds the supervisor up.
No child outlives the supervisor, not even one that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.capture.events import CaptureJob, Resize
from edge.errors import EdgeError
from edge.records import Census, Size

if TYPE_CHECKING:  # half of a capture process's start, and of its memory, would go into what it never uses
    from edge.messages import Answer

INFERENCE_NICE = 5  # the model takes what capture leaves
JOIN_S = 5.0
DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_IN_FLIGHT = (
    4  # messages of one child that the supervisor has not dealt with; then its pipe fills up, and it waits
)

log = logging.getLogger(__name__)

# --- What is said ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InferenceJob:
    """Everything that the inference process needs.

    Attributes:
        bundle: Directory of the bundle.
        cache: Where a full check of it is remembered.
        threads: Of the model; 0: one per physical core.
        device: Name of this device, for the answers.
        ticks: Ticks of a whole clip; they decide the frame size.
        keep_clips: Answered clips, of different cameras, whose context stays for questions.
        keep_bytes: What these may take together.
        ask_tokens: Budget of the answer to a question.
    """

    bundle: Path
    cache: Path
    threads: int
    device: str
    ticks: int
    keep_clips: int = 0
    keep_bytes: int = 1 << 30
    ask_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """From inference, first: the model is there; what captures need to know of it, picklable.

    Attributes:
        model: Id and revision.
        note: What belongs beside its words.
        size_for: Frame size for a source's picture size.
        resize: Scales a picture to it.
        bundle: Hash of the bundle.
        census: What its graphs have to do.
    """

    model: str
    note: str
    size_for: Callable[[Size], Size]
    resize: Resize
    bundle: str = ""
    census: Census | None = None


@dataclass(frozen=True, slots=True)
class Idle:
    """From inference: give me a clip."""


@dataclass(frozen=True, slots=True)
class NeedPairs:
    """From inference: give me pairs of the clip, or its end."""


@dataclass(frozen=True, slots=True)
class Working:
    """From inference: I make progress."""


@dataclass(frozen=True, slots=True)
class AnswerReady:
    """From inference: an answer to one prompt of the clip."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Asked:
    """From inference: what became of an `Ask`; it says next, again, what it waits for.

    Attributes:
        begun_mono_ns: CLOCK_MONOTONIC at which it was taken up.
        failure: Why there are no answers, or "".
        no_clip: Whether that is because the clip is not in memory.
    """

    key: str
    begun_mono_ns: int
    answers: tuple[Answer, ...] = ()
    failure: str = ""
    no_clip: bool = False


@dataclass(frozen=True, slots=True)
class ClipFailed:
    """From inference: the clip cannot be answered; `Idle` follows."""

    detail: str


@dataclass(frozen=True, slots=True)
class Fatal:
    """From any child, last: why it cannot go on."""

    error: EdgeError


@dataclass(frozen=True, slots=True)
class Stop:
    """To capture: end."""


@dataclass(frozen=True, slots=True)
class Tune:
    """To capture: another threshold of the gate, from the next clip on; None: every pair is sent."""

    gate: float | None


@dataclass(frozen=True, slots=True)
class Lost:
    """Put by `Child` when its process is gone; nothing follows."""


InferenceMain = Callable[[Connection, InferenceJob], None]

# --- What runs in a child ----------------------------------------------------------------------------------------------


def begin_child(name: str, *, nice: int = 0) -> None:
    """Settle a child process: its log, its priority, signals, and that it dies with the supervisor."""
    # Ctrl-C, a closed terminal and systemd reach every process of the group; the supervisor alone decides when a child ends.
    for number in DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    supervisor = multiprocessing.parent_process()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if supervisor is not None and supervisor.pid != os.getppid():  # it died before prctl
        os._exit(1)
    log_to_stderr(name)
    with contextlib.suppress(OSError):  # a sandbox may forbid it; then the model competes with capture
        os.nice(nice)


def log_to_stderr(name: str) -> None:
    """Write the log to standard error in plain lines that begin with the process's name; journald adds the time."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format=f"{name}: %(levelname)s: %(message)s", force=True
    )


class _Orders:
    """What the supervisor has told a capture process so far."""

    def __init__(self, conn: Connection, gate: float | None) -> None:
        self._conn = conn
        self._gate = gate
        self._stop = False

    def stop(self) -> bool:
        """Whether to end; the end of the pipe counts as the word."""
        while not self._stop and self._conn.poll():
            try:
                order = self._conn.recv()
            except EOFError:
                self._stop = True
                break
            if isinstance(order, Tune):
                self._gate = order.gate
            else:
                self._stop = True
        return self._stop

    def gate(self) -> float | None:
        """Return the threshold of the gate."""
        return self._gate


def capture_main(conn: Connection, job: CaptureJob) -> None:
    """Run one camera until the supervisor says `Stop`, closes the pipe, or a file ends."""
    begin_child(f"capture {job.camera}")
    from edge.capture.live import run_capture

    orders = _Orders(conn, job.gate)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        try:
            run_capture(job, conn.send, orders.stop, gate=orders.gate)
        except EdgeError as error:
            conn.send(Fatal(error))
    conn.close()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(0)  # a reader that is stuck in a driver would keep the process


def inference_main(conn: Connection, job: InferenceJob) -> None:
    """Load the bundle and answer one clip after the other until the supervisor closes the pipe."""
    begin_child("inference", nice=INFERENCE_NICE)
    from edge.daemon.inference import serve

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            serve(conn, job)
        except EdgeError as error:
            conn.send(Fatal(error))


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back what `begin_child` ignores, so that a child is born deaf to it; the supervisor hears it afterwards."""
    resource_tracker.ensure_running()  # its start would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- The supervisor's end ----------------------------------------------------------------------------------------------


class Child:
    """One child process and the pipe to it.

    Everything it says is put into ``inbox`` as ``(child, message)``, and `Lost` at its end. Only `_IN_FLIGHT` messages
    are read ahead of `handled`: who does not handle them holds the child back. To be made in the main thread: the
    child is killed when the thread that made it ends.

    Args:
        name: For logs and the process list.
        target: Runs in the child; gets its end of the pipe and ``job``. Module-level, so that it can be pickled.
        job: Its argument.
        inbox: Where the supervisor reads.

    Raises:
        OSError: The machine has no room for another process.
    """

    def __init__(
        self,
        name: str,
        target: Callable[[Connection, Any], None],
        job: Any,
        inbox: queue.SimpleQueue[Any],
    ) -> None:
        self.name = name
        self._inbox = inbox
        self._room = threading.Semaphore(_IN_FLIGHT)
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._closing = False
        context = multiprocessing.get_context("spawn")
        self._conn, theirs = context.Pipe(duplex=True)
        self._process = context.Process(target=target, args=(theirs, job), name=name, daemon=True)
        try:
            with _signals_held():
                self._process.start()
        except BaseException:
            self._conn.close()
            raise
        finally:
            theirs.close()  # or its death would not end the pipe
        self._threads = (
            threading.Thread(target=self._read, name=f"{name} reader", daemon=True),
            threading.Thread(target=self._write, name=f"{name} writer", daemon=True),
        )
        for thread in self._threads:
            thread.start()
        self.pid = self._process.pid or 0
        log.info("%s: process %d", name, self.pid)

    def send(self, message: object) -> None:
        """Give a message to the child; never waits."""
        self._outbox.put(message)

    def handled(self) -> None:
        """Say that one message of the child has been dealt with."""
        self._room.release()

    def kill(self) -> None:
        """End the process at once; `Lost` follows."""
        self._process.kill()

    def close(self, *, patience_s: float = 0.0) -> str:
        """Let go of the child: wait for its end for so long, then kill it. Return how it ended, for the log."""
        self._closing = True
        self._process.join(patience_s)
        self._process.kill()
        self._process.join(JOIN_S)
        self._outbox.put(None)
        self._room.release()
        for thread in self._threads:
            thread.join(JOIN_S)
        self._conn.close()
        code = self._process.exitcode
        if code is None:
            return "it cannot be killed"
        self._process.close()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _read(self) -> None:
        while True:
            self._room.acquire()
            if self._closing:
                return
            try:
                message = self._conn.recv()
            except (EOFError, OSError):
                break
            except Exception:
                log.exception("%s said something that cannot be understood", self.name)
                break
            self._inbox.put((self, message))
        self._inbox.put((self, Lost()))

    def _write(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                self._conn.send(message)
            except OSError:
                return  # it is dead; the reader tells
