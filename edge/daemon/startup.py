"""Before the service starts: what can never work is refused, and signals go to the supervisor's inbox."""

from __future__ import annotations

import queue
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from edge.capture.address import file_path, kind_of, masked
from edge.config import Settings
from edge.deliver.topics import Topics
from edge.errors import VideoError


def checked(settings: Settings) -> Topics:
    """Refuse what can never work, before anything starts."""
    topics = Topics(settings.mqtt.root, settings.device.id)
    settings.mqtt.password()
    for camera in settings.camera:
        for prompt in settings.prompts:
            topics.answer(camera.id, prompt.name)
        if kind_of(camera.source) == "file" and not file_path(camera.source).is_file():
            raise VideoError(
                f"camera {camera.id}: there is no video file {masked(camera.source)}",
                next_step="Correct camera.source; a live source is a URL or a device under /dev.",
            )
    return topics


@contextmanager
def signals(inbox: queue.SimpleQueue[Any]) -> Iterator[None]:
    """Put SIGTERM, SIGINT and SIGHUP into the inbox, from no child, while the service runs.

    From a terminal SIGHUP means that it was closed: that ends the service, as it ends any other program.
    """
    meaning = {signal.SIGHUP: signal.SIGTERM} if sys.stderr.isatty() else {}

    def put(number: int, _frame: FrameType | None) -> None:
        named = signal.Signals(number)
        inbox.put((None, meaning.get(named, named)))

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, put) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
