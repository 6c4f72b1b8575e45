"""The whole service once, on one machine and offline: `edge demo`.

An embedded broker, the real daemon as a process of its own, the bundle and the video inside the package, and a
subscriber that knows nothing of the others. What it received is what is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from edge.answer.text import BOLD, PLAIN, YELLOW, Style, plain, render_answer
from edge.demo.broker import DemoBroker
from edge.demo.subscriber import Received, Subscriber
from edge.demo.video import SECONDS, Video, video
from edge.errors import EdgeError
from edge.messages import Answer, Dropped, Health, Skipped
from edge.model.manifest import MANIFEST, Manifest
from edge.share import demo_bundle

_LIMIT_S = 300.0  # for a very slow machine; a Raspberry Pi needs some 30 s
_STOP_S = 20.0
_EVIDENCE_LINES = 8

_CONFIG = """\
[device]
id = "demo"

[bundle]
path = {bundle}

[clip]
seconds = {seconds}

[[camera]]
id = "yard"
source = {clip}
realtime = false # as fast as the model follows

[mqtt]
host = {host}
port = {port}

[outbox]
path = "outbox.db"

[health]
every_s = 1.0

[homeassistant]
enabled = false # the demo's broker ends with it
"""


def run_demo(
    *,
    seconds: float,
    as_json: bool,
    write: Callable[[str], None],
    width: int = 100,
    style: Style = PLAIN,
    seed: int | None = None,
) -> int:
    """Run the demo and print what the subscriber received, each answer with what is true of its clip.

    Args:
        seconds: Length of a clip.
        as_json: Print one JSON object a line, topic and payload, instead of text.
        write: Takes a line (or lines) for standard output.
        width: Columns of the terminal.
        style: What the terminal can show.
        seed: Renders the world of this seed instead of showing the video inside the package.

    Returns:
        The exit code: 0 where every second of the video is accounted for.

    Raises:
        EdgeError: The broker or the daemon does not run.
    """
    with (
        DemoBroker() as broker,
        tempfile.TemporaryDirectory(prefix="edgeclip-demo-") as directory,
        Subscriber(broker.host, broker.port) as subscriber,
    ):
        film = video(Path(directory), seed)
        show = _show_json if as_json else partial(_show, film=film, seconds=seconds, width=width, style=style)
        if not as_json:
            write(
                f"An MQTT broker, the service, and a subscriber on this machine; {SECONDS:g} s of video in clips of "
                f"{seconds:g} s, at full speed."
            )
            write(style.paint(YELLOW, f"note: {_note()}") + "\n")
        config = Path(directory) / "edge.toml"
        config.write_text(
            _CONFIG.format(
                bundle=json.dumps(str(demo_bundle())),
                clip=json.dumps(str(film.path)),
                seconds=float(seconds),
                host=json.dumps(broker.host),
                port=broker.port,
            ),
            encoding="utf-8",
        )
        shown = 0
        with _daemon(config) as daemon:
            deadline = time.monotonic() + _LIMIT_S
            # The service ends by itself once its video has ended and is delivered; then its last health message may
            # still count what was sent after it.
            while daemon.poll() != 0 and not _complete(subscriber.received):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise _failed(daemon, Path(directory) / "log")
                subscriber.wait_for(_longer_than(shown), 0.5)
                shown = _print_from(shown, subscriber.received, show, write)
        subscriber.wait_for(_offline, 5.0)
        _print_from(shown, subscriber.received, show, write)
        health = _last_health(subscriber.received)
    complete = health is not None and health.coverage.percent >= 100.0
    if not as_json and health is not None:
        write(
            f"{health.coverage.percent:g} % of the video is accounted for: {health.coverage.answered:g} s answered, "
            f"{health.coverage.partial:g} s in part, {health.coverage.skipped:g} s skipped."
        )
        write("The same video as a page to look at: edge summarize demo --bundle demo --html demo.html")
    return 0 if complete else 1


def _note() -> str:
    """Return what must be known of the bundle inside the package."""
    manifest = Manifest.model_validate_json((demo_bundle() / MANIFEST).read_bytes())
    return plain(manifest.model.note)


@contextmanager
def _daemon(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``edge run`` beside its log; it is asked to stop when the block ends."""
    with (config.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge", "run", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _failed(daemon: subprocess.Popen[bytes], log: Path) -> EdgeError:
    code = daemon.poll()
    what = (
        "the service did not finish in time" if code is None else f"the service ended with exit code {code}"
    )
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return EdgeError(
        what,
        evidence=lines[-_EVIDENCE_LINES:],
        next_step="Run `edge check CONFIG` with a configuration of your own.",
    )


def _longer_than(count: int) -> Callable[[Sequence[Received]], bool]:
    return lambda received: len(received) > count


def _offline(received: Sequence[Received]) -> bool:
    return any(message.payload == b"offline" for message in received)


def _last_health(received: Sequence[Received]) -> Health | None:
    found = [message for message in received if message.topic.endswith("/health")]
    return Health.model_validate_json(found[-1].payload) if found else None


def _complete(received: Sequence[Received]) -> bool:
    """Whether the last health message knows of the whole video, with nothing left in hand or in the outbox."""
    health = _last_health(received)
    if health is None or any(camera.state != "ended" for camera in health.cameras):
        return False
    return health.coverage.total > 0 and not health.coverage.in_hand and not health.outbox_pending


def _print_from(
    start: int,
    received: Sequence[Received],
    show: Callable[[Received], str],
    write: Callable[[str], None],
) -> int:
    for message in received[start:]:
        text = show(message)
        if text:
            write(text)
    return len(received)


def _show_json(message: Received) -> str:
    payload: Any
    try:
        payload = json.loads(message.payload)
    except ValueError:
        payload = message.payload.decode(errors="replace")
    return json.dumps({"topic": message.topic, "qos": message.qos, "payload": payload})


def _show(message: Received, *, film: Video, seconds: float, width: int, style: Style) -> str:
    """Return a message as a person reads it; what repeats itself, such as health, in one line or not at all."""
    kind = message.topic.rpartition("/")[2]
    if kind == "availability":
        return f"{message.topic}: {plain(message.payload.decode(errors='replace'))}\n"
    if kind in {"health", "state"}:
        return ""
    if kind == "dropped":
        return f"{message.topic}: {Dropped.model_validate_json(message.payload).count} messages dropped\n"
    if kind == "skipped":
        skipped = Skipped.model_validate_json(message.payload)
        return f"{message.topic}: clip {skipped.seq} {skipped.status}, {skipped.reason}: {plain(skipped.detail)}\n"
    answer = Answer.model_validate_json(message.payload)
    length = (answer.t_end - answer.t_start).total_seconds()
    head = style.paint(BOLD, f"{message.topic}:") + (
        f" clip {answer.seq}, {length:g} s, {len(message.payload):,} bytes, QoS {message.qos}"
    )
    body = render_answer(answer, seconds=length, width=width - 4, style=style).splitlines()
    at_s = None if answer.key_frame is None else answer.key_frame.time
    truth = [f"truth: {line}" for line in film.clip(answer.seq, seconds, at_s).lines(answer.prompt)]
    return "\n".join([head, *(f"    {line}".rstrip() for line in [*body, *truth]), ""])
