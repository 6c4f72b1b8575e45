"""What a page shows of one clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.answer.page.language import code
from edge.answer.report import ClipReport
from edge.records import Still


@dataclass(frozen=True, slots=True)
class Seen:
    """One pair that the model was shown.

    Attributes:
        index: Its place on the clip's grid: ticks ``2 * index`` and ``2 * index + 1``.
        score: How much of the picture had changed since the pair before, 0..1; None where nobody compared.
    """

    index: int
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked under a prompt's name, in the operator's words."""

    prompt: str
    words: str


@dataclass(frozen=True, slots=True)
class View:
    """One clip as it was looked at.

    Attributes:
        report: The answers and what it took to make them.
        asked: The questions, by the names that the answers carry.
        seen: The pairs that the model was shown, in order.
        film: Pictures as the model saw them, one for each of as many equal parts of the clip.
        stills: Sharper pictures; an event is shown by the one nearest to its middle, if one lies within it.
        places: The picture that an answer's boxes refer to, by the answer's id.
        language: In which the model was asked to write, in English, such as ``German``; "" where nobody said.
    """

    report: ClipReport
    asked: tuple[Asked, ...] = ()
    seen: tuple[Seen, ...] = ()
    film: tuple[Still, ...] = ()
    stills: tuple[Still, ...] = ()
    places: Mapping[str, Still] = field(default_factory=dict)
    language: str = ""

    @property
    def length_s(self) -> float:
        """Length of the clip."""
        return self.report.video.end - self.report.video.start

    @property
    def lang(self) -> str | None:
        """The language of the model's words as HTML names it; None: that of the page, English."""
        return code(self.language) or None

    def words(self, prompt: str) -> str:
        """Return what was asked under a name, or "" where that is not known."""
        return next((asked.words for asked in self.asked if asked.prompt == prompt), "")


def moments(report: ClipReport) -> list[float]:
    """Return the times worth a sharp picture: the middle of every event that is possible, in order.

    Args:
        report: The answers.
    """
    return sorted(
        {(event.start + event.end) / 2 for answer in report.answers for event in answer.events if event.valid}
    )
