"""What a caller may ask, and what is replied."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from edge.messages.answer import Answer
from edge.messages.wire import (
    COMMAND_ID_CHARS,
    DETAIL_CHARS,
    QUESTION_CHARS,
    REPLY_TO_PATTERN,
    Message,
    Slug,
    Utc,
)

Verb = Literal["ask", "analyse-now", "pause", "resume", "reload", "snapshot"]
VERBS: tuple[Verb, ...] = get_args(Verb)

RefusalReason = Literal[
    "retained",  # a retained command would be carried out again at every connect
    "rate_limited",  # more commands than [commands] per_minute; this refusal alone is sent at QoS 0
    "too_large",  # beyond the cap of a payload
    "too_deep",  # nested: a command is flat but for its answer_schema, which is not very deep
    "malformed",  # no JSON object, or not one of this schema
    "unknown_verb",
    "bad_schema",  # the answer_schema cannot be used for an answer
    "bad_response_topic",  # not a topic, too long, or one of the service's own
    "camera_needed",  # the device has several
    "unknown_camera",
    "not_allowed",  # the configuration does not permit it
    "not_ready",  # the model is still loading, or the service is stopping
    "busy",  # as many questions wait as may wait
    "no_clip",  # the clip that is meant is not in memory
    "paused",
    "no_picture",
]


class Command(BaseModel):
    """What a caller may write under ``cmd/<verb>``; an empty payload is ``{}``. Schema ``edgeclip.command/1``.

    Unlike other messages it is closed: a misspelt ``camera`` must not pause the whole device.

    Attributes:
        id: The caller's, given back as ``command_id``; printable ASCII.
        camera: Which camera; may be left out where there is one, and for `pause` and `resume` to mean all.
        question: Of `ask`.
        answer_schema: Of `ask`: a JSON Schema under which the answer is written, as far as `edge.answer.given` takes it.
        clip: Of `ask`: the last clip that was answered, or what was seen so far of the one in hand.
        paused: Of `pause`: false makes it a `resume`, for a caller with one topic for both, such as a switch.
        reply_to: Last level of the reply's topic, ``reply/<reply_to>``, for a caller that can name no response topic;
            one that it does name counts more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_: Literal["edgeclip.command/1"] = Field("edgeclip.command/1", alias="schema")
    id: Annotated[str, Field(max_length=COMMAND_ID_CHARS, pattern=r"^[ -~]*$")] = ""
    camera: Slug | None = None
    question: Annotated[str, Field(max_length=QUESTION_CHARS, pattern=r"\S")] | None = None
    answer_schema: dict[str, JsonValue] | None = None
    clip: Literal["latest", "current"] = "latest"
    paused: bool | None = None
    reply_to: Annotated[str, Field(pattern=REPLY_TO_PATTERN)] | None = None


class Reply(Message):
    """The one answer to a command. Schema ``edgeclip.reply/1``.

    Attributes:
        command_id: The caller's id, or "".
        correlation: The caller's MQTT 5 correlation data in base64, or ""; under MQTT 5 it is a property as well.
        verb: "" where it is unknown.
        status: ``done``; ``failed``: it was begun and could not be done; ``refused``: it was not begun, see ``reason``.
        detail: For people.
        waited_s: From the command's arrival until the model began on it; the wait for the chunk in hand. None where the
            model was not needed.
        answers: Of `ask` (one) and `analyse-now` (one per prompt). What was seen of an unfinished clip is ``partial``.
        applied: Of `reload`: sections of the configuration that have changed and hold from now on.
        restart_needed: Of `reload`: sections that have changed and will hold after a restart.
        problems: Of `reload`: what is wrong with the file; then nothing was changed.
    """

    schema_: Literal["edgeclip.reply/1"] = Field("edgeclip.reply/1", alias="schema")
    id: str
    command_id: str
    correlation: str
    device: str
    camera: str
    verb: Verb | Literal[""]
    time: Utc
    status: Literal["done", "failed", "refused"]
    reason: RefusalReason | None = None
    detail: Annotated[str, Field(max_length=DETAIL_CHARS)] = ""
    waited_s: float | None = None
    answers: tuple[Answer, ...] = ()
    applied: tuple[str, ...] = ()
    restart_needed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
