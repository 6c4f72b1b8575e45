"""What arrives under ``cmd/``: from bytes that anybody may have sent to a checked request, or to a refusal with its reason.

Pure; the time is an argument. Everything that comes takes a token from one bucket, so whatever a flood carries costs
no more than its first kilobytes: beyond the rate nothing is parsed.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from edge.deliver.store import Outgoing
from edge.deliver.topics import RESPONSE_TOPIC_BYTES, Topics
from edge.errors import DeliveryError
from edge.messages import DETAIL_CHARS, VERBS, Answer, Command, RefusalReason, Reply, Verb

PAYLOAD_MAX_BYTES = 8192
CORRELATION_MAX_BYTES = 256
DEPTH_MAX = 1  # a command is one flat object
SCHEMA = b"answer_schema"  # but for this key
SCHEMA_DEPTH_MAX = 32  # of brackets in it
REPLIES = "/replies"
"""The replies' lane in the outbox, beside those of the cameras; no camera can have this name."""

_NEEDS_CAMERA = frozenset({"ask", "analyse-now", "snapshot"})
_ENTIRE = frozenset({"reload"})  # the whole device, never one camera


class RefusedError(DeliveryError):
    """A command will not be carried out; its reply says why.

    Args:
        reason: One of the published reasons.
        what: The same for people.
    """

    def __init__(self, reason: RefusalReason, what: str) -> None:
        super().__init__(what)
        self.reason: RefusalReason = reason


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as the broker delivered it; ``response_topic`` and ``correlation`` are MQTT 5's, else empty."""

    topic: str
    payload: bytes
    retain: bool
    response_topic: str = ""
    correlation: bytes = b""


@dataclass(frozen=True, slots=True)
class Sender:
    """Where the reply goes, and what its caller knows it by."""

    topic: str
    command_id: str = ""
    correlation: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """A command that may be carried out.

    Attributes:
        cameras: Those that are meant, all of them known; one for `ask`, `analyse-now` and `snapshot`.
        received_s: When it came, on the clock of `Intake.take`.
    """

    verb: Verb
    cameras: tuple[str, ...]
    command: Command
    sender: Sender
    received_s: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that will not be carried out, with its reply."""

    reason: RefusalReason
    reply: Outgoing


class Bucket:
    """A token bucket: full at first, refilled evenly.

    Args:
        per_minute: Tokens that it holds, and gets in a minute.
        now_s: The present time, seconds.
    """

    def __init__(self, per_minute: int, now_s: float) -> None:
        self._size = float(per_minute)
        self._tokens = self._size
        self._then_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one token; False if there is none."""
        self._tokens = min(self._size, self._tokens + (now_s - self._then_s) * self._size / 60)
        self._then_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Intake:
    """Checks commands and words replies.

    Args:
        topics: Of this device.
        device: Its name.
        cameras: All its cameras.
        per_minute: Commands that may come in a minute.
        now_s: The present time, seconds.
    """

    def __init__(
        self, topics: Topics, *, device: str, cameras: Collection[str], per_minute: int, now_s: float
    ) -> None:
        self._topics = topics
        self._device = device
        self._cameras = tuple(cameras)
        self._bucket = Bucket(per_minute, now_s)

    def limit(self, per_minute: int, now_s: float) -> None:
        """Change how many commands may come in a minute."""
        self._bucket = Bucket(per_minute, now_s)

    def take(self, incoming: Incoming, now_s: float) -> Request | Refusal:
        """Check one message; what costs least comes first."""
        verb = next((verb for verb in VERBS if verb == self._topics.verb(incoming.topic)), None)
        command_id = reply_to = ""
        try:
            self._admit(incoming, now_s)
            known = _known(verb)
            command = parse(incoming.payload)
            command_id, reply_to = command.id, command.reply_to or ""
            cameras = self._meant(known, command)
        except RefusedError as refused:
            topic = incoming.response_topic if self._addressed(incoming) else ""
            correlation = incoming.correlation if len(incoming.correlation) <= CORRELATION_MAX_BYTES else b""
            reply = self.reply(
                Sender(topic or self._topics.reply(reply_to), command_id, correlation),
                verb,
                status="refused",
                reason=refused.reason,
                detail=refused.what,
            )
            return Refusal(refused.reason, reply)
        topic = incoming.response_topic or self._topics.reply(reply_to)
        sender = Sender(topic, command_id, incoming.correlation)
        return Request(known, cameras, command, sender, now_s)

    def reply(
        self,
        sender: Sender,
        verb: Verb | None,
        *,
        status: str,
        camera: str = "",
        reason: RefusalReason | None = None,
        detail: str = "",
        waited_s: float | None = None,
        answers: tuple[Answer, ...] = (),
        **reloaded: tuple[str, ...],
    ) -> Outgoing:
        """Word a reply; ``reloaded`` are the fields of `reload`."""
        message = Reply.model_validate(
            {
                "id": str(uuid.uuid4()),
                "command_id": sender.command_id,
                "correlation": base64.b64encode(sender.correlation).decode("ascii"),
                "device": self._device,
                "camera": camera,
                "verb": verb or "",
                "time": datetime.now(UTC),
                "status": status,
                "reason": reason,
                "detail": detail[:DETAIL_CHARS],
                "waited_s": None if waited_s is None else round(waited_s, 3),
                "answers": answers,
                **reloaded,
            }
        )
        return Outgoing(id=message.id, topic=sender.topic, payload=message.payload(), camera=REPLIES)

    def _admit(self, incoming: Incoming, now_s: float) -> None:
        """Look at the envelope."""
        if not self._bucket.take(now_s):
            raise RefusedError("rate_limited", "there were too many commands in the last minute")
        if not self._addressed(incoming):
            raise RefusedError(
                "bad_response_topic",
                "a response topic is a plain topic outside the devices' own branches, at most "
                f"{RESPONSE_TOPIC_BYTES} bytes long, and correlation data at most {CORRELATION_MAX_BYTES}",
            )
        if incoming.retain:
            raise RefusedError(
                "retained", "it would be carried out again at every connect; publish it without retain"
            )

    def _addressed(self, incoming: Incoming) -> bool:
        """Whether a reply can be sent as the caller wants it."""
        topic = incoming.response_topic
        return len(incoming.correlation) <= CORRELATION_MAX_BYTES and (
            not topic or self._topics.may_reply_on(topic)
        )

    def _meant(self, verb: Verb, command: Command) -> tuple[str, ...]:
        """Return the cameras that a command means, and check what its verb needs beside them."""
        if (command.question is None) == (verb == "ask"):
            raise RefusedError("malformed", "question: ask needs one, and no other verb takes one")
        if command.answer_schema is not None and verb != "ask":
            raise RefusedError("malformed", "answer_schema: only ask takes it")
        if command.paused is not None and verb != "pause":
            raise RefusedError("malformed", "paused: only pause takes it")
        if command.camera is None:
            if verb in _NEEDS_CAMERA and len(self._cameras) > 1:
                raise RefusedError("camera_needed", "this device has several; name one as camera")
            return self._cameras
        if verb in _ENTIRE:
            raise RefusedError("malformed", f"camera: {verb} concerns the whole device")
        if command.camera not in self._cameras:
            raise RefusedError("unknown_camera", "this device has no camera of that name")
        return (command.camera,)


def _known(verb: Verb | None) -> Verb:
    if verb is None:
        raise RefusedError("unknown_verb", f"the verbs are {', '.join(VERBS)}")
    return verb


def parse(payload: bytes) -> Command:
    """Read a payload; an empty one is ``{}``.

    Raises:
        RefusedError: It is too large, too deep, or no command.
    """
    if len(payload) > PAYLOAD_MAX_BYTES:
        raise RefusedError("too_large", f"a command is at most {PAYLOAD_MAX_BYTES} bytes long")
    outside, inside = _depths(payload)
    if outside > DEPTH_MAX or inside > SCHEMA_DEPTH_MAX:
        raise RefusedError("too_deep", "a command is one flat JSON object, but for its answer_schema")
    try:
        return Command.model_validate_json(payload.strip() or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        known = [str(part) for part in first["loc"] if part in _FIELDS]
        what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise RefusedError("malformed", ": ".join([*known, what])) from error


_FIELDS = frozenset(field.alias or name for name, field in Command.model_fields.items())


def _depths(payload: bytes) -> tuple[int, int]:
    """Return how deep brackets are nested outside strings: elsewhere, and in the value of `SCHEMA`."""
    depth = begun = 0
    deepest = {False: 0, True: 0}
    within = quoted = escaped = False
    for at, byte in enumerate(payload):
        if quoted:
            quoted = escaped or byte != 0x22  # "
            escaped = not escaped and byte == 0x5C  # \
            if not quoted and depth == 1:
                within = payload[begun:at] == SCHEMA  # a key, or another key's value, which ends with a comma
        elif byte == 0x22:
            quoted, begun = True, at + 1
        elif byte in b"[{":
            depth += 1
            deepest[within] = max(deepest[within], depth)
        elif byte in b"]}":
            depth -= 1
    return deepest[False], deepest[True]
