"""One clip out of a video file, for a command at the shell; streamed, never all pictures in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.capture.clip import NS, Chosen, Done, Grid, Sampler, ticks_in
from edge.capture.events import Resize, Scale
from edge.capture.picture import Converter, Decoded
from edge.capture.playback import Playback
from edge.capture.sieve import Sieve
from edge.errors import EmptyVideoError
from edge.records import ClipStats, Pair, Size, Still


class FileClip:
    """One clip of a file: ``fps * seconds`` ticks from ``start_s`` on, fewer where the video ends earlier.

    Args:
        path: The video.
        start_s: Where the clip begins, seconds after the video's first picture.
        seconds: Length of the clip.
        fps: Ticks per second.
        size_for: Size at which pictures of a given size reach the model.
        resize: How a picture is scaled when ``scale`` is ``"exact"``.
        scale: See `edge.capture.events.CaptureJob`.
        gate: Likewise.
        stills: Likewise; see `still`.

    Raises:
        VideoError: The file cannot be read or is no video.
        EmptyVideoError: It holds no picture.
    """

    def __init__(
        self,
        path: Path,
        *,
        start_s: float,
        seconds: float,
        fps: float,
        size_for: Callable[[Size], Size],
        resize: Resize,
        scale: Scale = "exact",
        gate: float | None = None,
        stills: bool = False,
    ) -> None:
        if start_s < 0 or seconds <= 0:
            raise ValueError(f"a clip needs start_s >= 0 and seconds > 0, not {start_s} and {seconds}")
        began = time.perf_counter()
        self._path = path
        self._start_ns = round(start_s * NS)
        self._seconds = seconds
        self._playback = Playback(str(path))
        self._grid = Grid(fps, ticks_in(seconds, fps))
        self._sieve = Sieve(
            Converter(scale, resize), fps=fps, ticks=self._grid.ticks_per_clip, gate=gate, stills=stills
        )
        self.still: Still | None = None  # the clip's key frame, once its pairs are exhausted
        self._stats: ClipStats | None = None
        self.source_size: Size = self._playback.source.size
        self.size: Size = size_for(self.source_size)
        self.duration_s: float | None = self._playback.source.duration_s
        self._work_s = time.perf_counter() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the decoder."""
        self._playback.close()

    @property
    def damaged(self) -> int:
        """Packets that could not be decoded and were left out."""
        return self._playback.source.damaged

    def stats(self) -> ClipStats:
        """Return what was counted; valid once ``pairs`` is exhausted."""
        if self._stats is None:
            raise RuntimeError("the clip has not been read to its end")
        return self._stats

    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs in order, each as soon as it is decoded and let through; once.

        Raises:
            EmptyVideoError: The video ends before ``start_s``.
        """
        # Time spent by the consumer between pairs is not ours: count only what passes inside this generator.
        began = time.perf_counter()
        sampler: Sampler[Decoded] = Sampler(self._grid)
        for step in self._steps(sampler):
            if isinstance(step, Done):
                pairs, gated, threshold = self._sieve.end()
                self.still = self._sieve.still()
                # The grid ends with its last tick's period; the clip ends where it was asked to.
                seconds = min(step.stats.seconds, self._seconds)
                self._work_s += time.perf_counter() - began
                self._stats = replace(
                    step.stats, seconds=seconds, decode_s=self._work_s, pairs_gated=gated, gate=threshold
                )
                yield from pairs
                return
            for pair in self._sieve.pairs(step, self.size):
                self._work_s += time.perf_counter() - began
                yield pair
                began = time.perf_counter()
        raise EmptyVideoError(
            f"the video {self._path} ends before the clip begins",
            evidence=[
                f"the clip begins at {self._start_ns / NS:.1f} s",
                f"the video ends at {self._playback.end_ns / NS:.1f} s",
            ],
            next_step="Choose an earlier start.",
        )

    def _steps(self, sampler: Sampler[Decoded]) -> Iterator[Chosen[Decoded] | Done]:
        for at_ns, picture in self._playback.pictures(self._start_ns):
            yield from sampler.offer(at_ns - self._start_ns, picture)
        yield from sampler.finish(self._playback.end_ns - self._start_ns)
