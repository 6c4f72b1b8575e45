"""What the model writes: bodies whose schemas bound every string and list, so the grammar always reaches an end."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from edge.messages.wire import (
    CLIP_SECONDS_MAX,
    COORDINATE_MAX,
    COUNT_MAX,
    EVENT_CHARS,
    HEADLINE_CHARS,
    LABEL_CHARS,
    MAX_EVENTS,
    MAX_OBJECTS,
    MAX_RELATIONS,
    SEEN_CHARS,
    SUMMARY_CHARS,
    TEXT_CHARS,
    Verdict,
)


class EventBody(BaseModel):
    """One event as the model writes it; seconds from the clip's start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Annotated[str, Field(min_length=1, max_length=EVENT_CHARS)]
    start: Annotated[float, Field(ge=0, le=CLIP_SECONDS_MAX)]
    end: Annotated[float, Field(ge=0, le=CLIP_SECONDS_MAX)]


class CountsBody(BaseModel):
    """How many different ones were seen in the whole clip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: Annotated[int, Field(ge=0, le=COUNT_MAX)]
    vehicles: Annotated[int, Field(ge=0, le=COUNT_MAX)]
    animals: Annotated[int, Field(ge=0, le=COUNT_MAX)]


class SummaryBody(BaseModel):
    """The model-written part of a summary; a model may leave the counts out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    headline: Annotated[str, Field(min_length=1, max_length=HEADLINE_CHARS)]
    summary: Annotated[str, Field(min_length=1, max_length=SUMMARY_CHARS)]
    events: Annotated[list[EventBody], Field(max_length=MAX_EVENTS)]
    counts: CountsBody | None = None


Coordinate = Annotated[int, Field(ge=0, le=COORDINATE_MAX)]


class ObjectBody(BaseModel):
    """One object as the model writes it; ``bbox_2d`` is x1, y1, x2, y2 on 0..1000, Qwen's own convention.

    More than 1000 can be written, so that it can be flagged: under a limit of 1000 a model that means 1024 would be led
    to 102.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: Annotated[str, Field(min_length=1, max_length=LABEL_CHARS)]
    bbox_2d: Annotated[list[Coordinate], Field(min_length=4, max_length=4)]


class RelationBody(BaseModel):
    """One relation between two labels as the model writes it, such as person - left of - car."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: Annotated[str, Field(min_length=1, max_length=LABEL_CHARS)]
    relation: Annotated[str, Field(min_length=1, max_length=LABEL_CHARS)]
    object: Annotated[str, Field(min_length=1, max_length=LABEL_CHARS)]


class SpatialBody(BaseModel):
    """The model-written part of a spatial answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    headline: Annotated[str, Field(min_length=1, max_length=HEADLINE_CHARS)]
    objects: Annotated[list[ObjectBody], Field(max_length=MAX_OBJECTS)]
    relations: Annotated[list[RelationBody], Field(max_length=MAX_RELATIONS)]


class AskBody(BaseModel):
    """The model-written part of the answer to a free question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=TEXT_CHARS)]


class WatchBody(BaseModel):
    """The model-written part of the answer to a watch question: what bears on it, and then the verdict.

    A small model that has to say yes or no at once guesses; one that has written down what it saw can read it there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seen: Annotated[str, Field(min_length=1, max_length=SEEN_CHARS)]
    answer: Verdict
