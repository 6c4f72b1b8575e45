"""The model's JSON text, and what is known of the clip, become one published answer: validated, flagged, never mended.

What the model wrote is kept as it wrote it. Impossible spans and boxes are flagged ``valid: false``. Only characters
that have no business in a line of text are taken out, and then the answer says ``repaired``.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ValidationError

from edge import __version__
from edge.answer import places, relations, result
from edge.answer.confidence import Chances, folded
from edge.errors import AnswerError
from edge.messages import (
    BODIES,
    HEADLINE_CHARS,
    Answer,
    AskBody,
    Box,
    Confidence,
    Counts,
    Event,
    EventBody,
    Evidence,
    Gap,
    KeyFrame,
    Latency,
    ObjectBody,
    Provenance,
    Relation,
    RelationBody,
    SeenObject,
    SpatialBody,
    SummaryBody,
    Watched,
    message_id,
)
from edge.records import ALL, ClipPlan, ClipStats, Effort, Prompt, Size

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_NO_LINE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # categories of characters that no line holds


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote and what it took.

    Attributes:
        text: JSON under `edge.answer.schema.model_schema`.
        logprobs: Natural logarithms of the probabilities of the tokens that the model was free to choose.
        tokens_in: Tokens of the context before the answer.
        tokens_out: Tokens of the answer.
        truncated: The token budget ran out, or it began to repeat itself, and the grammar closed the answer.
        pieces: The bytes of each token.
        chances: For each token the logarithm of its probability, None where it was no free choice.
    """

    text: str
    logprobs: Sequence[float]
    tokens_in: int
    tokens_out: int
    truncated: bool
    pieces: Sequence[bytes] = ()
    chances: Sequence[float | None] = ()


@dataclass(frozen=True, slots=True)
class Author:
    """Which model wrote it: id and revision, bundle hash, recipe, and the note that belongs beside its words."""

    model: str
    bundle: str
    recipe: str
    note: str


@dataclass(frozen=True, slots=True)
class Work:
    """What was done for the clip up to this answer: pairs shown to the model, seconds by stage, heat.

    Attributes:
        tokens: Tokens of these pairs.
        after_end_s: From the clip's last tick to the answer; None where the clip did not happen live.
        shown: Indices of the pairs that the model was shown, ascending.
        key_frame: The still that it was shown.
    """

    pairs: int
    vision_s: float
    prefill_s: float
    decode_s: float
    after_end_s: float | None
    temperature_c: float | None
    tokens: int = 0
    shown: Sequence[int] = ()
    key_frame: KeyFrame | None = None


def assemble(
    written: Written,
    *,
    device: str,
    plan: ClipPlan,
    stats: ClipStats,
    prompt: Prompt,
    author: Author,
    work: Work,
    effort: Effort = ALL,
    watches: Sequence[Watched] = (),
) -> Answer:
    """Make the published answer of one clip under one prompt.

    Of a watch, ``written`` counts all its questions together, its text is not used, and ``watches`` says what was
    answered. An event is valid when ``0 <= start <= end <= length of the clip``; of a box see
    `edge.answer.places.problem`, of relations `edge.answer.relations`. The status is ``partial`` when a part of the clip
    was not seen.

    Raises:
        AnswerError: The text is no body of this kind. Nothing that the grammar allows raises it.
    """
    cleaner = _Cleaner()
    reader = _Reader(written, plan, stats, work, cleaner)
    if prompt.kind == "watch":
        said = _watched(watches, cleaner)
    elif prompt.schema:
        said = reader.result(_object(written.text, prompt))
    else:
        said = reader.read(_parse(written.text, prompt))
    seen = stats.ticks - stats.ticks_empty
    fields = said.pop("fields")
    return Answer(
        id=message_id(plan.clip_id, prompt.name),
        clip_id=plan.clip_id,
        seq=plan.seq,
        device=device,
        camera=plan.camera,
        prompt=prompt.name,
        kind=prompt.kind,
        t_start=plan.t_start,
        t_end=plan.t_start + timedelta(seconds=stats.seconds),
        clock_synced=plan.clock_synced,
        status="partial" if stats.gaps or stats.ticks_empty else "answered",
        gaps=tuple(Gap(start=gap.start_s, end=gap.end_s, reason=gap.reason) for gap in stats.gaps),
        **said,
        key_frame=work.key_frame,
        confidence=Confidence(value=folded(written.logprobs) or 0.0, fields=fields),
        provenance=Provenance(
            model=author.model,
            bundle=author.bundle,
            recipe=author.recipe,
            note=author.note,
            software=f"edgeclip {__version__}",
            frames=seen,
            frames_repeated=stats.ticks_repeated,
            pairs=work.pairs,
            pairs_offered=stats.pairs,
            fps_effective=round((seen - stats.ticks_repeated) / stats.seconds, 3)
            if stats.seconds > 0
            else 0.0,
            frame_height=plan.size.height,
            frame_width=plan.size.width,
            tokens_in=written.tokens_in,
            tokens_out=written.tokens_out,
            rung=effort.rung,
            rung_name=effort.name,
            rung_causes=effort.causes,
            latency=Latency(
                capture=round(stats.decode_s, 3),
                vision=round(work.vision_s, 3),
                prefill=round(work.prefill_s, 3),
                decode=round(work.decode_s, 3),
                after_end=None if work.after_end_s is None else round(work.after_end_s, 3),
            ),
            temperature_c=work.temperature_c,
            energy_j=None,
            truncated=written.truncated,
            repaired=cleaner.changed,
            gate=stats.gate,
            pairs_gated=stats.pairs_gated,
            tokens_saved=round(stats.pairs_gated * work.tokens / work.pairs) if work.pairs else 0,
        ),
    )


def _watched(watches: Sequence[Watched], cleaner: _Cleaner) -> dict[str, Any]:
    """Return the fields of a watch's answer."""
    headline = ", ".join(f"{watched.rule}: {watched.answer}" for watched in watches)
    return {
        "headline": headline[:HEADLINE_CHARS],
        "watches": tuple(each.model_copy(update={"seen": cleaner.line(each.seen)}) for each in watches),
        "fields": {watched.rule: watched.confidence for watched in watches},
    }


def _parse(text: str, prompt: Prompt) -> BaseModel:
    try:
        return BODIES[prompt.kind].model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _unread(text, prompt, f"{where}: {first['msg']}" if where else first["msg"]) from error


def _object(text: str, prompt: Prompt) -> dict[str, Any]:
    """Read what was written under an asker's schema; the grammar made it valid."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _unread(text, prompt, str(error)) from error
    if not isinstance(found, dict):
        raise _unread(text, prompt, "it is no object")
    return found


def _unread(text: str, prompt: Prompt, why: str) -> AnswerError:
    return AnswerError(
        f"the model's reply to {prompt.name} is no {prompt.kind} answer",
        evidence=[why, f"it begins: {text[:80]!a}"],
        next_step=f"Give the prompt more than {prompt.max_tokens} tokens (max_tokens), or another bundle.",
    )


class _Reader:
    """Takes the fields of an answer out of what the model wrote."""

    def __init__(
        self, written: Written, plan: ClipPlan, stats: ClipStats, work: Work, cleaner: _Cleaner
    ) -> None:
        self._chances = Chances(written.pieces, written.chances)
        self._fps = plan.fps
        self._seconds = stats.seconds
        self._shown = work.shown
        # The shape of the picture that boxes refer to.
        still = work.key_frame
        self._size = plan.size if still is None else Size(still.height, still.width)
        self._cleaner = cleaner
        self._line = cleaner.line

    def read(self, body: BaseModel) -> dict[str, Any]:
        """Return the fields that come from the model."""
        if isinstance(body, SummaryBody):
            return self._summary(body)
        if isinstance(body, SpatialBody):
            return self._spatial(body)
        assert isinstance(body, AskBody)  # noqa: S101  # a watch has no text; for the type checker
        text = self._line(body.text)
        return {"headline": text[:HEADLINE_CHARS], "text": text, "fields": self._fields("text")}

    def result(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of an answer under an asker's schema."""
        kept = self._cleaner.within(found)
        chances = {
            name: self._chances.words(name) if isinstance(value, str) else self._chances.number(name)
            for name, value in kept.items()
        }
        return {
            "headline": result.line(kept)[:HEADLINE_CHARS],
            "result": kept,
            "fields": {name: chance for name, chance in chances.items() if chance is not None},
        }

    def _summary(self, body: SummaryBody) -> dict[str, Any]:
        counted = None if body.counts is None else Counts(**body.counts.model_dump())
        numbers = {
            f"counts.{name}": chance
            for name in Counts.model_fields
            if (chance := self._chances.number("counts", name)) is not None
        }
        return {
            "headline": self._line(body.headline),
            "summary": self._line(body.summary),
            "events": tuple(self._event(at, event) for at, event in enumerate(body.events)),
            "counts": counted,
            "fields": {**self._fields("headline", "summary"), **numbers},
        }

    def _spatial(self, body: SpatialBody) -> dict[str, Any]:
        found = self._objects(body.objects)
        told = [self._relation(at, relation, found) for at, relation in enumerate(body.relations)]
        boxes = [seen.written for seen in found if seen.valid and seen.written is not None]
        labels = [seen.label for seen in found if seen.valid]
        first = places.nearest(boxes)
        room = places.free(boxes) if len(boxes) == len(found) else None  # nobody knows where the others are
        return {
            "headline": self._line(body.headline),
            "objects": found,
            "relations": (*told, *relations.worked_out(found, told, self._size)),
            "nearest": "" if first is None else labels[first],
            "free": None if room is None else _box(room),
            "fields": self._fields("headline"),
        }

    def _fields(self, *names: str) -> dict[str, float]:
        return {name: chance for name in names if (chance := self._chances.words(name)) is not None}

    def _event(self, at: int, event: EventBody) -> Event:
        valid = 0 <= event.start <= event.end <= self._seconds
        return Event(
            what=self._line(event.what),
            start=event.start,
            end=event.end,
            valid=valid,
            confidence=self._chances.words("events", at, "what"),
            evidence=self._evidence(event.start, event.end) if valid else None,
        )

    def _evidence(self, start_s: float, end_s: float) -> Evidence | None:
        """Return the pairs that the model was shown of a span; a pair stands for the time of its two ticks."""
        seen = [
            index
            for index in self._shown
            if 2 * index / self._fps <= end_s and (2 * index + 2) / self._fps > start_s
        ]
        return Evidence(first=seen[0], last=seen[-1], pairs=len(seen)) if seen else None

    def _objects(self, objects: Sequence[ObjectBody]) -> tuple[SeenObject, ...]:
        before: list[tuple[str, places.Corners]] = []
        found = []
        for at, item in enumerate(objects):
            x1, y1, x2, y2 = item.bbox_2d
            corners = (x1, y1, x2, y2)
            label = self._line(item.label)
            wrong = places.problem(corners, label, before)
            before.append((label, corners))
            found.append(
                SeenObject(
                    label=label,
                    box=_box(corners),
                    valid=not wrong,
                    problem=wrong,
                    written=corners,
                    confidence=self._chances.words("objects", at, "label"),
                    box_confidence=self._chances.numbers("objects", at, "bbox_2d"),
                )
            )
        return tuple(found)

    def _relation(self, at: int, relation: RelationBody, objects: Sequence[SeenObject]) -> Relation:
        subject, word, other = (
            self._line(text) for text in (relation.subject, relation.relation, relation.object)
        )
        return Relation(
            subject=subject,
            relation=word,
            object=other,
            valid=relations.holds(subject, word, other, objects, self._size),
            confidence=self._chances.words("relations", at, "relation"),
        )


def _box(corners: places.Corners) -> Box:
    """Return a box on 0..1; what lies beyond the picture ends at its edge."""
    x1, y1, x2, y2 = (min(corner, places.FULL) / places.FULL for corner in corners)
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


class _Cleaner:
    """Takes characters out of lines, and remembers whether it had to."""

    def __init__(self) -> None:
        self.changed = False

    def line(self, text: str) -> str:
        """Return the text without control characters and surrogates; never empty."""
        kept = "".join(char for char in text if unicodedata.category(char) not in {"Cc", "Cs"}) or REPLACEMENT
        self.changed = self.changed or kept != text
        return kept

    def within(self, value: Any) -> Any:
        """Return an object with such characters replaced, one by one: lengths stay what a schema wants."""
        if isinstance(value, dict):
            return {name: self.within(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.within(inner) for inner in value]
        if not isinstance(value, str):
            return value
        kept = "".join(REPLACEMENT if unicodedata.category(char) in _NO_LINE else char for char in value)
        self.changed = self.changed or kept != value
        return kept
