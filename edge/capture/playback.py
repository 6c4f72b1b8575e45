"""One pass through a video file from any time on, exact to the picture."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from edge.capture.clock import MediaClock
from edge.capture.picture import Decoded
from edge.capture.source import Source, open_source


class Playback:
    """A file's pictures with their times since its first one.

    Args:
        file: The file, as a path or a ``file:`` URL.

    Raises:
        VideoError: The file cannot be read or is no video.
        EmptyVideoError: It holds no picture.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self.source: Source = open_source(file)
        self._clock = MediaClock(self.source.nominal_ns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the decoder."""
        self.source.close()

    @property
    def end_ns(self) -> int:
        """Where the latest picture ends; once all pictures are taken, where the video ends."""
        return self._clock.end_ns

    def pictures(self, start_ns: int) -> Iterator[tuple[int, Decoded]]:
        """Yield the pictures from ``start_ns`` on, and at least one from before it, in order; once.

        Seeks where the file allows it exactly, and decodes from the beginning where not.
        """
        first = next(self.source.frames())  # a source without a picture does not open
        first_ns = self._time_ns(first)
        if start_ns > first_ns:
            landed = self._sought(start_ns)
            if landed is None:
                self.source.close()
                self.source = open_source(self._file)
                self._clock = MediaClock(self.source.nominal_ns)
            else:
                yield self._time_ns(landed), landed
        else:
            yield first_ns, first
        for picture in self.source.frames():
            yield self._time_ns(picture), picture

    def _sought(self, start_ns: int) -> Decoded | None:
        target_ns = self._clock.pts_ns(start_ns)
        if target_ns is None or not self.source.seek(target_ns):
            return None
        landed = next(self.source.frames(), None)
        if landed is None or landed.pts_ns is None or landed.pts_ns > target_ns:
            return None
        self._clock.sought(landed.pts_ns)
        return landed

    def _time_ns(self, picture: Decoded) -> int:
        return self._clock.time_ns(picture.pts_ns, picture.duration_ns)
