"""What one run at the shell leaves to look at: pictures kept while the model watched, a page, a picture with boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.answer.page.document import page
from edge.answer.page.view import Asked, Seen, View, moments
from edge.answer.picture import Form, annotated
from edge.answer.report import ClipReport
from edge.capture.file import FileClip
from edge.errors import EdgeError
from edge.messages import Answer
from edge.model.preprocess import scale
from edge.records import Pair, Size, Still
from edge.shell import Request

FILM = 8  # pictures over the timeline: as many as can be made out beside each other
STILL_PX = 960  # longest side of a sharp picture
_KEPT_MAX = 64  # pictures held while the clip passes by: 9 MiB at 256 x 192
FORMS: dict[str, Form] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}


class Album:
    """Pictures as the model saw them, spread over a clip whose length nobody knows before its end.

    Args:
        fps: Ticks per second.
        gated: Whether a gate chose the pairs; only then do their scores mean anything.
    """

    def __init__(self, fps: float, *, gated: bool = False) -> None:
        self._fps = fps
        self._gated = gated
        self._every = 1  # of so many pairs one is kept
        self._kept: list[tuple[int, Still]] = []
        self._last: Still | None = None
        self._seen: list[Seen] = []

    def see(self, pairs: Sequence[Pair]) -> None:
        """Look at the next pairs; frames are copied where they are kept."""
        for pair in pairs:
            self._seen.append(Seen(pair.index, pair.score if self._gated else None))
            if pair.index % self._every == 0:
                self._kept.append((pair.index, self._shot(pair, 0)))
            if len(self._kept) > _KEPT_MAX:
                self._every *= 2
                self._kept = [(index, shot) for index, shot in self._kept if index % self._every == 0]
        if pairs:
            self._last = self._shot(pairs[-1], 1)

    @property
    def last(self) -> Still | None:
        """The last picture that the model saw."""
        return self._last

    @property
    def seen(self) -> tuple[Seen, ...]:
        """All pairs, without their pictures."""
        return tuple(self._seen)

    def film(self, length_s: float, count: int = FILM) -> tuple[Still, ...]:
        """Return a picture for each of at most ``count`` equal parts of the clip: the nearest to the part's middle."""
        shots = [shot for _, shot in self._kept]
        parts = min(count, len(shots))
        middles = [(part + 0.5) * length_s / parts for part in range(parts)]
        return tuple(min(shots, key=lambda shot: abs(shot.time_s - at_s)) for at_s in middles)

    def _shot(self, pair: Pair, frame: int) -> Still:
        return Still((2 * pair.index + frame) / self._fps, pair.frames[frame].copy())


@dataclass(frozen=True, slots=True)
class Shown:
    """One finished run: what was wanted, what was found, what was kept, what was asked and in which language."""

    request: Request
    report: ClipReport
    album: Album
    asked: tuple[Asked, ...]
    language: str = ""

    def page(self) -> bytes:
        """Return the page; the video is opened again for its sharp pictures.

        Raises:
            VideoError: The video cannot be read any more.
        """
        length_s = self.report.video.end - self.report.video.start
        return page(
            View(
                report=self.report,
                asked=self.asked,
                seen=self.album.seen,
                film=self.album.film(length_s),
                stills=tuple(Still(at_s, self._still(at_s)) for at_s in moments(self.report)),
                places={
                    answer.id: self._places(answer)
                    for answer in self.report.answers
                    if answer.kind == "spatial"
                },
                language=self.language,
            )
        )

    def picture(self, form: Form) -> bytes:
        """Return the picture that the first answer's boxes refer to, with boxes and relations on it.

        Raises:
            VideoError: The video cannot be read any more.
        """
        answer = self.report.answers[0]
        return annotated(self._places(answer).rgb, answer.objects, answer.relations, form=form)

    def _places(self, answer: Answer) -> Still:
        """Return the picture that an answer's boxes refer to: the key frame, or the last one that the model saw."""
        if answer.key_frame is not None:
            return Still(answer.key_frame.time, self._still(answer.key_frame.time))
        last = self.album.last
        assert last is not None  # noqa: S101  # a clip without a picture has no answer; for the type checker
        return Still(last.time_s, self._still(last.time_s))

    def _still(self, at_s: float) -> NDArray[np.uint8]:
        """Return the picture of a moment as the video has it, up to `STILL_PX`: the one that its tick would take."""
        request = self.request
        # A moment between two ticks shows what the tick before it showed; a pair may end on a tick that repeats the last.
        last = math.ceil((self.report.video.end - self.report.video.start) * request.fps - 1e-6) - 1
        tick_s = min(int(at_s * request.fps + 1e-6), last) / request.fps
        with FileClip(
            request.video,
            start_s=request.start_s + tick_s,
            seconds=2 / request.fps,
            fps=request.fps,
            size_for=_fitted,
            resize=scale,
        ) as clip:
            pair = next(clip.pairs())
        frame: NDArray[np.uint8] = pair.frames[0]
        return frame


def write(path: Path, content: bytes) -> None:
    """Write a file whole.

    Raises:
        EdgeError: It cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise EdgeError(
            f"{path} cannot be written",
            evidence=[str(error.strerror)],
            next_step="Give another path, or make room.",
        ) from error


def _fitted(source: Size) -> Size:
    factor = min(1.0, STILL_PX / max(source.height, source.width))
    return Size(max(1, round(source.height * factor)), max(1, round(source.width * factor)))
