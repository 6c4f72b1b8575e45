"""What all messages share: limits, types of fields, ids."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

# Fixed for ever: changing it would change every id.
NAMESPACE = uuid.UUID("5b0f3c0e-6f0c-5c55-9a86-0d2d6f1f8a11")

HEADLINE_CHARS = 255  # Home Assistant's limit of a state
SUMMARY_CHARS = 600
TEXT_CHARS = 600
EVENT_CHARS = 120
LABEL_CHARS = 60
SEEN_CHARS = 120
MAX_EVENTS = 8
MAX_OBJECTS = 8
MAX_RELATIONS = 8
CLIP_SECONDS_MAX = 600
COUNT_MAX = 99
COORDINATE_MAX = 9999
QUESTION_CHARS = 500
COMMAND_ID_CHARS = 64
DETAIL_CHARS = 500
REPLY_TO_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"

RESERVED_PROMPTS = frozenset({"skipped", "dropped", "state", "alert", "event", "image"})
"""Last parts of topics under a camera that are the service's own."""
RESERVED_CAMERAS = frozenset({"health", "availability", "dropped", "cmd", "reply"})
"""Parts of topics under a device that are the service's own."""

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


def _utc_text(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Verdict = Literal["yes", "no", "unsure"]
Utc = Annotated[AwareDatetime, PlainSerializer(_utc_text, return_type=str, when_used="json")]


class Message(BaseModel):
    """Base of all messages: frozen; fields of a later minor version are ignored, so the schemas stay open."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    def payload(self) -> bytes:
        """Return the UTF-8 JSON that is published: compact, None fields left in, times as RFC 3339 in UTC."""
        return self.model_dump_json(by_alias=True).encode()


def clip_id(device: str, camera: str, epoch: str, seq: int) -> str:
    """Return the UUIDv5 of a clip; ``epoch`` is the outbox's state epoch (or a file's identity at the shell)."""
    return str(uuid.uuid5(NAMESPACE, f"{device}/{camera}/{epoch}/{seq}"))


def message_id(clip: str, name: str) -> str:
    """Return the UUIDv5 of what is said of a clip under a prompt's name (or "skipped")."""
    return str(uuid.uuid5(uuid.UUID(clip), name))
