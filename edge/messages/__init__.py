"""What goes over the wire: the published messages, their schemas, ids and versions.

Every message carries ``schema`` (name and major version) and ``id`` (the key by which a subscriber removes
duplicates: the same work done twice has the same id). Within a major version fields are only added. Text that the
model wrote (headline, summary, text, labels, what, relation) is data: never a topic, a command or markup.

The model writes only `SummaryBody`, `SpatialBody`, `WatchBody` or `AskBody`; their JSON Schemas bound every string and list, so the
grammar that decodes under them always reaches an end. Everything else is filled in by the service.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from edge.messages.alert import Alert, WatchState
from edge.messages.answer import (
    Answer,
    Box,
    BoxProblem,
    Confidence,
    Counts,
    Event,
    Evidence,
    Gap,
    KeyFrame,
    Latency,
    Probability,
    Provenance,
    Relation,
    SeenObject,
    Skipped,
    SkipReason,
    State,
    Watched,
)
from edge.messages.body import (
    AskBody,
    Coordinate,
    CountsBody,
    EventBody,
    ObjectBody,
    RelationBody,
    SpatialBody,
    SummaryBody,
    WatchBody,
)
from edge.messages.command import VERBS, Command, RefusalReason, Reply, Verb
from edge.messages.health import (
    CameraHealth,
    CommandTotals,
    Coverage,
    Dropped,
    DroppedSpan,
    GovernorHealth,
    Health,
)
from edge.messages.wire import (
    CLIP_SECONDS_MAX,
    COMMAND_ID_CHARS,
    COORDINATE_MAX,
    COUNT_MAX,
    DETAIL_CHARS,
    EVENT_CHARS,
    HEADLINE_CHARS,
    LABEL_CHARS,
    MAX_EVENTS,
    MAX_OBJECTS,
    MAX_RELATIONS,
    NAMESPACE,
    QUESTION_CHARS,
    REPLY_TO_PATTERN,
    RESERVED_CAMERAS,
    RESERVED_PROMPTS,
    SEEN_CHARS,
    SUMMARY_CHARS,
    TEXT_CHARS,
    Message,
    Slug,
    Utc,
    Verdict,
    clip_id,
    message_id,
)

__all__ = [
    "BODIES",
    "CLIP_SECONDS_MAX",
    "COMMAND_ID_CHARS",
    "COORDINATE_MAX",
    "COUNT_MAX",
    "DETAIL_CHARS",
    "EVENT_CHARS",
    "HEADLINE_CHARS",
    "LABEL_CHARS",
    "MAX_EVENTS",
    "MAX_OBJECTS",
    "MAX_RELATIONS",
    "NAMESPACE",
    "PUBLISHED",
    "QUESTION_CHARS",
    "REPLY_TO_PATTERN",
    "RESERVED_CAMERAS",
    "RESERVED_PROMPTS",
    "SEEN_CHARS",
    "SUMMARY_CHARS",
    "TEXT_CHARS",
    "VERBS",
    "Alert",
    "Answer",
    "AskBody",
    "Box",
    "BoxProblem",
    "CameraHealth",
    "Command",
    "CommandTotals",
    "Confidence",
    "Coordinate",
    "Counts",
    "CountsBody",
    "Coverage",
    "Dropped",
    "DroppedSpan",
    "Event",
    "EventBody",
    "Evidence",
    "Gap",
    "GovernorHealth",
    "Health",
    "KeyFrame",
    "Latency",
    "Message",
    "ObjectBody",
    "Probability",
    "Provenance",
    "RefusalReason",
    "Relation",
    "RelationBody",
    "Reply",
    "SeenObject",
    "SkipReason",
    "Skipped",
    "Slug",
    "SpatialBody",
    "State",
    "SummaryBody",
    "Utc",
    "Verb",
    "Verdict",
    "WatchBody",
    "WatchState",
    "Watched",
    "clip_id",
    "command_schema",
    "message_id",
    "published_schema",
]

PUBLISHED: dict[str, type[Message]] = {
    "answer": Answer,
    "skipped": Skipped,
    "dropped": Dropped,
    "state": State,
    "alert": Alert,
    "watch": WatchState,
    "health": Health,
    "reply": Reply,
}
"""The messages by the name under which `edge schema` prints them."""

BODIES: dict[str, type[BaseModel]] = {
    "summary": SummaryBody,
    "spatial": SpatialBody,
    "watch": WatchBody,
    "ask": AskBody,
}
"""The model-written part by kind of prompt."""


_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def published_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a published message, as it is serialised.

    Args:
        name: A key of `PUBLISHED`.
    """
    schema = PUBLISHED[name].model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": _DIALECT, **schema}


def command_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a command, as it is accepted."""
    return {"$schema": _DIALECT, **Command.model_json_schema(by_alias=True, mode="validation")}
