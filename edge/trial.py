"""Tries prompts on clips whose answers are known, and scores them: for whoever has the weights, and clips of their own.

A folder holds clips, and beside each ``NAME.mp4`` a ``NAME.toml`` with what is true of it (`Expected`). A prompt file has
the ``[[prompt]]`` and ``[answers]`` sections of the configuration; without one the shipped prompts are tried. What is
scored is plain: a watch by its yes and no, an event by words that it must hold and by its time, an object by its label and
overlap, free text by words, counts exactly. Right and wrong answers' confidence is compared by the area under the ROC
curve: 0.5 says that it tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.answer.places import overlap
from edge.answer.prompts import check_text, prompt_from, watch_text
from edge.config import DEFAULT_PROMPTS, AnswerSettings, PromptSettings, read
from edge.errors import ConfigError
from edge.messages import Answer
from edge.records import Prompt, Question

VIDEOS = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm"})
TOLERANCE_S = 2.0
OVERLAP = 0.5
"""Intersection over union from which on a box is right."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExpectedEvent(_Part):
    """An event: words that its description must hold, and when it is, in seconds of the clip."""

    words: tuple[str, ...]
    start: float
    end: float


class ExpectedObject(_Part):
    """An object: a word that its label must hold, and x1, y1, x2, y2 on 0..1 in the key frame (or last picture)."""

    label: str
    box: tuple[float, float, float, float]


class Expected(_Part):
    """What is true of one clip.

    Attributes:
        start: Where the clip begins in the video, seconds.
        seconds: Its length.
        watch: Questions, and whether the answer is yes or no.
        ask: Questions, and words that the answer must hold.
        events: What happens; asked for with the summary prompt.
        counts: How many people, vehicles and animals; likewise.
        objects: What is where; asked for with the spatial prompt.
    """

    start: Annotated[float, Field(ge=0)] = 0.0
    seconds: Annotated[float, Field(ge=2, le=600)] = 60.0
    watch: dict[str, Literal["yes", "no"]] = Field(default_factory=dict)
    ask: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    events: tuple[ExpectedEvent, ...] = ()
    counts: dict[Literal["people", "vehicles", "animals"], int] = Field(default_factory=dict)
    objects: tuple[ExpectedObject, ...] = ()


class PromptFile(_Part):
    """Prompts to be tried; of each kind the first one counts."""

    prompt: tuple[PromptSettings, ...] = DEFAULT_PROMPTS
    answers: AnswerSettings = AnswerSettings()


@dataclass(slots=True)
class Scores:
    """What was right, by what was asked.

    Attributes:
        right: By name: how many of how many.
        verdicts: Of every watch question: what was expected, what was answered, how probable that was.
    """

    right: dict[str, tuple[int, int]] = field(default_factory=dict)
    verdicts: list[tuple[str, str, float]] = field(default_factory=list)

    def add(self, name: str, right: int, of: int) -> None:
        """Count."""
        before = self.right.get(name, (0, 0))
        self.right[name] = before[0] + right, before[1] + of

    def figures(self) -> dict[str, Any]:
        """Return everything as JSON."""
        told = [(expected, answer) for expected, answer, _ in self.verdicts]
        hits = told.count(("yes", "yes"))
        alarms = sum(answer == "yes" for _, answer in told)
        due = sum(expected == "yes" for expected, _ in told)
        sure = [(chance, expected == answer) for expected, answer, chance in self.verdicts]
        return {
            **{name: {"right": right, "of": of} for name, (right, of) in sorted(self.right.items())},
            "watch": {
                "questions": len(told),
                "right": sum(expected == answer for expected, answer in told),
                "unsure": sum(answer == "unsure" for _, answer in told),
                "precision": round(hits / alarms, 4) if alarms else None,
                "recall": round(hits / due, 4) if due else None,
                "confidence_auroc": auroc(sure),
            },
        }


def auroc(sure: Sequence[tuple[float, bool]]) -> float | None:
    """Return how often a right answer is surer than a wrong one, ties as half; None without both."""
    right = [chance for chance, good in sure if good]
    wrong = [chance for chance, good in sure if not good]
    if not right or not wrong:
        return None
    wins = sum((a > b) + (a == b) / 2 for a in right for b in wrong)
    return round(wins / len(right) / len(wrong), 4)


def trial(
    folder: Path, prompts: Path | None, look: Callable[[Path, Expected, list[Prompt]], Sequence[Answer]]
) -> Scores:
    """Try prompts on every clip of a folder.

    Args:
        folder: Clips with what is true of them beside.
        prompts: The prompt file; None for the shipped prompts.
        look: Shows a clip to the model and asks.

    Raises:
        ConfigError: A file is wrong, or there is nothing to try.
    """
    given = (
        PromptFile() if prompts is None else read(prompts, PromptFile, "prompt file", "See edge/README.md.")
    )
    clips = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in VIDEOS and path.with_suffix(".toml").exists()
    )
    if not clips:
        raise ConfigError(
            f"there is nothing to try in {folder}",
            evidence=["no video has a .toml of the same name beside it"],
            next_step="Write one beside each clip; edge/README.md shows how.",
        )
    known = {clip: read(clip.with_suffix(".toml"), Expected, "file", "See edge/README.md.") for clip in clips}
    scores = Scores()
    for clip, expected in known.items():
        asked = list(_prompts(expected, given))
        if asked:
            for prompt, answer in zip(asked, look(clip, expected, asked), strict=True):
                mark(scores, expected, prompt, answer)
    return scores


def mark(scores: Scores, expected: Expected, prompt: Prompt, answer: Answer) -> None:
    """Score one answer."""
    if prompt.kind == "watch":
        for watched in answer.watches:
            scores.verdicts.append((expected.watch[watched.question], watched.answer, watched.confidence))
    elif prompt.kind == "ask":
        words = list(expected.ask.values())[int(prompt.name.removeprefix("ask"))]
        scores.add("ask", _holds(answer.text, words), 1)
    elif prompt.kind == "summary":
        found = sum(any(_same(event, seen) for seen in answer.events) for event in expected.events)
        scores.add("events", found, len(expected.events))
        for name, count in expected.counts.items():
            scores.add("counts", answer.counts is not None and getattr(answer.counts, name) == count, 1)
    else:
        scores.add("objects", sum(_seen(each, answer) for each in expected.objects), len(expected.objects))


def _prompts(expected: Expected, given: PromptFile) -> Iterator[Prompt]:
    def of(kind: Literal["summary", "spatial", "watch"]) -> Prompt:
        found = next(
            (each for each in given.prompt if each.kind == kind), PromptSettings(name=kind, kind=kind)
        )
        return replace(prompt_from(found, given.answers), name=kind)

    if expected.events or expected.counts:
        yield of("summary")
    if expected.objects:
        yield of("spatial")
    if expected.watch:
        said = {
            "words": next((each.text for each in given.prompt if each.kind == "watch"), ""),
            "language": given.answers.language,
        }
        yield replace(
            of("watch"),
            questions=tuple(
                Question(f"q{at}", text, watch_text(text, **said), check_text(text, **said), ())
                for at, text in enumerate(expected.watch)
            ),
        )
    for at, text in enumerate(expected.ask):
        yield prompt_from(PromptSettings(name=f"ask{at}", kind="ask", text=text), given.answers)


def _holds(text: str, words: Sequence[str]) -> bool:
    return all(word.lower() in text.lower() for word in words)


def _same(expected: ExpectedEvent, seen: Any) -> bool:
    near = max(abs(expected.start - seen.start), abs(expected.end - seen.end)) <= TOLERANCE_S
    return bool(seen.valid and near and _holds(seen.what, expected.words))


def _seen(expected: ExpectedObject, answer: Answer) -> bool:
    def corners(box: Sequence[float]) -> tuple[int, int, int, int]:
        x1, y1, x2, y2 = (round(1000 * value) for value in box)
        return x1, y1, x2, y2

    return any(
        seen.valid
        and _holds(seen.label, [expected.label])
        and overlap(corners(expected.box), corners((seen.box.x1, seen.box.y1, seen.box.x2, seen.box.y2)))
        >= OVERLAP
        for seen in answer.objects
    )
