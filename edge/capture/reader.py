"""A thread that reads one live source into a small mailbox, so that the grid goes on while the source is stuck.

A C call of FFmpeg that does not return cannot be cancelled; whoever owns the process ends it.
"""

from __future__ import annotations

import threading
from collections import deque

from edge.capture.events import CaptureJob
from edge.capture.picture import Decoded
from edge.capture.source import open_source
from edge.errors import CameraLostError, VideoError

# Pictures wait only while the grid's thread converts one; a 4K picture takes 12 MiB.
MAILBOX_BYTES = 64 * 1024 * 1024
MAILBOX_LEAST = 4
MAILBOX_MOST = 32


class Mailbox:
    """Pictures from the reader to the grid; when full the oldest goes, counted."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pictures: deque[Decoded] = deque()
        self._dropped = 0
        self._error: Exception | None = None

    def put(self, picture: Decoded) -> None:
        """Leave a picture; never blocks."""
        picture_bytes = picture.size.height * picture.size.width * 3 // 2
        most = max(MAILBOX_LEAST, min(MAILBOX_MOST, MAILBOX_BYTES // max(picture_bytes, 1)))
        with self._changed:
            self._pictures.append(picture)
            while len(self._pictures) > most:
                self._pictures.popleft()
                self._dropped += 1
            self._changed.notify()

    def fail(self, error: Exception) -> None:
        """Leave the reason for which nothing further will come."""
        with self._changed:
            self._error = error
            self._changed.notify()

    def get(self, timeout_s: float) -> Decoded | None:
        """Take the oldest picture, None when none comes within the time.

        Raises:
            Exception: What the reader failed with, once all pictures before it have been taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._pictures or self._error, timeout_s)
            if self._pictures:
                return self._pictures.popleft()
            if self._error is not None:
                raise self._error
            return None

    def dropped(self) -> int:
        """Return how many pictures were dropped since the last call."""
        with self._changed:
            count, self._dropped = self._dropped, 0
            return count


class Reader:
    """Opens a live source and fills a mailbox until told to stop or until the source fails."""

    def __init__(self, job: CaptureJob) -> None:
        self.mailbox = Mailbox()
        self._job = job
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"read-{job.camera}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ask the thread to end and wait for it a little; a stuck one is left behind."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        job = self._job
        try:
            with open_source(job.source, transport=job.transport, timeout_s=job.timeout_s) as source:
                for picture in source.frames():
                    if self._stop.is_set():
                        return
                    self.mailbox.put(picture)
        except VideoError as error:
            self.mailbox.fail(error if isinstance(error, CameraLostError) else _as_lost(error))
        except Exception as error:  # noqa: BLE001  # a defect: it is raised again where the loop takes its pictures
            self.mailbox.fail(error)


def _as_lost(error: VideoError) -> CameraLostError:
    """A live source that holds no picture now may hold one at the next try."""
    return CameraLostError(error.what, evidence=error.evidence, next_step=error.next_step)
