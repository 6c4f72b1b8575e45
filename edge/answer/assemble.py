"""The model's JSON text, and what is known of the clip, become one published answer: validated, flagged, never mended.

What the model wrote is kept as it wrote it. Impossible spans and boxes are flagged ``valid: false``. Only characters
that have no business in a line of text are taken out, and then the answer says ``repaired``.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ValidationError

from edge import __version__
from edge.errors import AnswerError
from edge.messages import (
    BODIES,
    HEADLINE_CHARS,
    Answer,
    AskBody,
    Box,
    Confidence,
    Event,
    EventBody,
    Gap,
    Latency,
    ObjectBody,
    Provenance,
    Relation,
    SeenObject,
    SpatialBody,
    SummaryBody,
    message_id,
)
from edge.records import ALL, ClipPlan, ClipStats, Effort, Prompt

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote and what it took.

    Attributes:
        text: JSON under `edge.answer.schema.model_schema`.
        logprobs: Natural logarithms of the probabilities of the tokens that the model was free to choose.
        tokens_in: Tokens of the context before the answer.
        tokens_out: Tokens of the answer.
        truncated: The token budget ran out and the grammar closed the answer.
    """

    text: str
    logprobs: Sequence[float]
    tokens_in: int
    tokens_out: int
    truncated: bool


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
    """

    pairs: int
    vision_s: float
    prefill_s: float
    decode_s: float
    after_end_s: float | None
    temperature_c: float | None
    tokens: int = 0


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
) -> Answer:
    """Make the published answer of one clip under one prompt.

    An event is valid when ``0 <= start <= end <= length of the clip``; a box when it has an area and is not the box of
    an object before it. The status is ``partial`` when a part of the clip was not seen.

    Raises:
        AnswerError: The text is no body of this kind. Nothing that the grammar allows raises it.
    """
    body = _parse(written.text, prompt)
    cleaner = _Cleaner()
    said = _said(body, cleaner, stats.seconds)
    seen = stats.ticks - stats.ticks_empty
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
        confidence=Confidence(value=_confidence(written.logprobs)),
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


def _parse(text: str, prompt: Prompt) -> BaseModel:
    try:
        return BODIES[prompt.kind].model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AnswerError(
            f"the model's reply to {prompt.name} is no {prompt.kind} answer",
            evidence=[f"{where}: {first['msg']}" if where else first["msg"], f"it begins: {text[:80]!a}"],
            next_step=f"Give the prompt more than {prompt.max_tokens} tokens (max_tokens), or another bundle.",
        ) from error


def _said(body: BaseModel, cleaner: _Cleaner, seconds: float) -> dict[str, Any]:
    """Return the fields of the answer that come from the model."""
    if isinstance(body, SummaryBody):
        return {
            "headline": cleaner.line(body.headline),
            "summary": cleaner.line(body.summary),
            "events": tuple(_event(event, cleaner, seconds) for event in body.events),
        }
    if isinstance(body, SpatialBody):
        return {
            "headline": cleaner.line(body.headline),
            "objects": _objects(body.objects, cleaner),
            "relations": tuple(
                Relation(
                    subject=cleaner.line(relation.subject),
                    relation=cleaner.line(relation.relation),
                    object=cleaner.line(relation.object),
                )
                for relation in body.relations
            ),
        }
    assert isinstance(body, AskBody)  # noqa: S101  # the last kind; for the type checker
    text = cleaner.line(body.text)
    return {"headline": text[:HEADLINE_CHARS], "text": text}


def _event(event: EventBody, cleaner: _Cleaner, seconds: float) -> Event:
    return Event(
        what=cleaner.line(event.what),
        start=event.start,
        end=event.end,
        valid=0 <= event.start <= event.end <= seconds,
    )


def _objects(objects: Sequence[ObjectBody], cleaner: _Cleaner) -> tuple[SeenObject, ...]:
    boxes: set[tuple[int, ...]] = set()
    found = []
    for item in objects:
        x1, y1, x2, y2 = item.bbox_2d
        valid = x1 < x2 and y1 < y2 and (x1, y1, x2, y2) not in boxes
        boxes.add((x1, y1, x2, y2))
        box = Box(x1=x1 / 1000, y1=y1 / 1000, x2=x2 / 1000, y2=y2 / 1000)
        found.append(SeenObject(label=cleaner.line(item.label), box=box, valid=valid))
    return tuple(found)


def _confidence(logprobs: Sequence[float]) -> float:
    """Return exp of the mean; 0 where there is nothing to rest on (no free choice, or no number)."""
    mean = sum(logprobs) / len(logprobs) if logprobs else -math.inf
    return 0.0 if math.isnan(mean) else round(math.exp(min(0.0, mean)), 4)


class _Cleaner:
    """Takes characters out of lines, and remembers whether it had to."""

    def __init__(self) -> None:
        self.changed = False

    def line(self, text: str) -> str:
        """Return the text without control characters and surrogates; never empty."""
        kept = "".join(char for char in text if unicodedata.category(char) not in {"Cc", "Cs"}) or REPLACEMENT
        self.changed = self.changed or kept != text
        return kept
