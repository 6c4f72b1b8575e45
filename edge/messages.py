"""What goes over the wire: the published messages, their schemas, ids and versions.

Every message carries ``schema`` (name and major version) and ``id`` (the key by which a subscriber removes
duplicates: the same work done twice has the same id). Within a major version fields are only added. Text that the
model wrote (headline, summary, text, labels, what, relation) is data: never a topic, a command or markup.

The model writes only `SummaryBody`, `SpatialBody`, `WatchBody` or `AskBody`; their JSON Schemas bound every string and list, so the
grammar that decodes under them always reaches an end. Everything else is filled in by the service.

The module is long because the format is read as one: every message beside those that it refers to.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

# Fixed for ever: changing it would change every id.
NAMESPACE = uuid.UUID("5b0f3c0e-6f0c-5c55-9a86-0d2d6f1f8a11")

HEADLINE_CHARS = 255  # Home Assistant's limit of a state
SUMMARY_CHARS = 600
TEXT_CHARS = 600
EVENT_CHARS = 120
LABEL_CHARS = 60
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


# --- What the model writes -------------------------------------------------------------------------------------------


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
    """The model-written part of the answer to a watch question: one word, nothing of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: Verdict


# --- What is published -----------------------------------------------------------------------------------------------


class Gap(Message):
    """A span of the clip that was not seen; seconds from the clip's start."""

    start: float
    end: float
    reason: str


Probability = Annotated[float, Field(ge=0, le=1)]


class Evidence(Message):
    """The pairs of frames in a span that the model was shown: first and last on the clip's grid, and how many."""

    first: int
    last: int
    pairs: Annotated[int, Field(ge=1)]


class Event(Message):
    """One event; seconds from the clip's start. ``valid`` is false where the model wrote an impossible span.

    Attributes:
        confidence: Of ``what``.
        evidence: What was seen in its span; None where nothing was, or where the span is impossible.
    """

    what: str
    start: float
    end: float
    valid: bool
    confidence: Probability | None = None
    evidence: Evidence | None = None


class Counts(Message):
    """How many different ones the model saw in the clip."""

    people: int
    vehicles: int
    animals: int


class KeyFrame(Message):
    """The sharp still that was shown after the clip, and to which boxes refer.

    Attributes:
        time: Seconds from the clip's start.
        height: In pixels, as the model was shown it.
        width: The same.
        tokens: What it took of the context.
    """

    time: float
    height: int
    width: int
    tokens: int


class Box(Message):
    """A box on 0..1 of the original picture, x to the right, y downwards."""

    x1: Annotated[float, Field(ge=0, le=1)]
    y1: Annotated[float, Field(ge=0, le=1)]
    x2: Annotated[float, Field(ge=0, le=1)]
    y2: Annotated[float, Field(ge=0, le=1)]


BoxProblem = Literal["", "degenerate", "duplicate", "out_of_range"]


class SeenObject(Message):
    """An object and its box; ``valid`` is false for a box that cannot be, which is flagged, not mended.

    Attributes:
        problem: Why it is not valid, or "": without an area, the same as one before it, or beyond the picture.
        written: x1, y1, x2, y2 as the model wrote them, on 0..1000. ``box`` holds these; only what lies beyond the
            picture ends at its edge there.
        confidence: Of the label.
        box_confidence: Of the box.
    """

    label: str
    box: Box
    valid: bool
    problem: BoxProblem = ""
    written: tuple[int, int, int, int] | None = None
    confidence: Probability | None = None
    box_confidence: Probability | None = None


class Relation(Message):
    """A relation between two labels, such as person - left of - car.

    ``valid`` is false where it is not between two different ones of the objects.
    """

    subject: str
    relation: str
    object: str
    valid: bool = True
    confidence: Probability | None = None


class Watched(Message):
    """The answer to one question of a watch.

    Attributes:
        rule: The operator's name for it.
        question: The operator's words.
        answer: What holds: a yes that did not stand the second look is ``unsure``.
        first: What was answered at first.
        check: What the second look said; None where there was none.
        confidence: Probability of ``first``, or of ``check`` where there was one, among yes, no and unsure.
    """

    rule: str
    question: str
    answer: Verdict
    first: Verdict
    check: Verdict | None = None
    confidence: Probability


class Confidence(Message):
    """How probable the model found what it wrote, raw and not calibrated.

    Attributes:
        value: Geometric mean of the probabilities of the tokens that the model was free to choose, each among those
            that the grammar allowed.
        fields: The same of single fields, by name; a number is as probable as all of its digits together.
    """

    value: Probability
    calibrated: Literal[False] = False
    fields: dict[str, Probability] = Field(default_factory=dict)


class Latency(Message):
    """Seconds of work by stage; ``after_end`` is from the clip's last tick to the answer, None for a file."""

    capture: float
    vision: float
    prefill: float
    decode: float
    after_end: float | None = None


class Provenance(Message):
    """Where an answer comes from and on what it rests.

    Attributes:
        model: Model id and revision as the bundle names them.
        bundle: SHA-256 over the manifest of the bundle that answered.
        recipe: Name of the quantisation recipe.
        note: What everybody who reads the text must know (a bundle of random weights says so here), or "".
        frames: Ticks of the clip for which there was a picture.
        frames_repeated: Of these, ticks that repeat the tick before.
        pairs: Pairs that the model was shown.
        pairs_offered: Pairs that the clip had.
        fps_effective: New pictures per second of clip.
        tokens: Tokens before the answer, and tokens of the answer.
        rung: How much was done: 0 for everything, and more for less; ``rung_name`` says what, ``rung_causes`` why
            (backlog, budget, heat, power, battery, memory).
        energy_j: Joules that the whole machine used from the moment that the model took up the clip to this answer,
            by ``energy_source``: ``measured`` by its own meter, or ``estimated`` from processor time and a profile.
        throttled: Whether the processor was slowed by heat or by a weak supply; None where that cannot be known.
        truncated: The answer met its token budget and was closed early.
        repaired: The service changed something in the model's answer before publishing.
        gate: Threshold of the gate; None: it was off, or is not known of a clip that did not end as it should.
        pairs_gated: Pairs that the gate dropped, of ``pairs_offered``.
        tokens_saved: Tokens that these would have taken, at the mean of the pairs that were shown.
    """

    model: str
    bundle: str
    recipe: str
    note: str
    software: str
    frames: int
    frames_repeated: int
    pairs: int
    pairs_offered: int
    fps_effective: float
    frame_height: int
    frame_width: int
    tokens_in: int
    tokens_out: int
    rung: int
    latency: Latency
    temperature_c: float | None
    energy_j: float | None
    truncated: bool
    repaired: bool
    gate: float | None = None
    pairs_gated: int = 0
    tokens_saved: int = 0
    rung_name: str = ""
    rung_causes: tuple[str, ...] = ()
    energy_source: Literal["measured", "estimated"] | None = None
    throttled: bool | None = None


class Answer(Message):
    """What the model said of one clip under one prompt. Schema ``edgeclip.answer/1``.

    Attributes:
        nearest: Of a spatial answer: label of the valid object that reaches lowest in the picture, or "". Worked out
            from the boxes.
        free: Of a spatial answer: the largest box that no valid object touches. Worked out from the boxes.
        key_frame: The still that the boxes refer to; None where it is the clip's last picture.
        watches: Of a watch: every question with its answer.
    """

    schema_: Literal["edgeclip.answer/1"] = Field("edgeclip.answer/1", alias="schema")
    id: str
    clip_id: str
    seq: Annotated[int, Field(ge=0)]
    device: str
    camera: str
    prompt: str
    kind: Literal["summary", "spatial", "watch", "ask"]
    t_start: Utc
    t_end: Utc
    clock_synced: bool
    status: Literal["answered", "partial"]
    gaps: tuple[Gap, ...]
    headline: Annotated[str, Field(max_length=HEADLINE_CHARS)]
    summary: Annotated[str, Field(max_length=SUMMARY_CHARS)] = ""
    text: Annotated[str, Field(max_length=TEXT_CHARS)] = ""
    events: tuple[Event, ...] = ()
    objects: tuple[SeenObject, ...] = ()
    relations: tuple[Relation, ...] = ()
    counts: Counts | None = None
    nearest: str = ""
    free: Box | None = None
    key_frame: KeyFrame | None = None
    watches: tuple[Watched, ...] = ()
    confidence: Confidence
    provenance: Provenance


SkipReason = Literal[
    "no_video",  # the source was away for the whole clip
    "backlog",  # the engine could not keep up; freshness before completeness
    "inference_failed",  # the engine died or failed twice on this clip
    "interrupted",  # the daemon was killed while the clip was in hand
    "shutdown",  # the daemon was asked to stop before the clip could be answered
    "paused",  # the operator asked the camera to pause
    "heat",  # the machine is too hot to work, or rests so often that clips come too late
    "battery",  # the battery is nearly empty
    "memory",  # the machine has no memory left for clips
    "power",  # the operator's limit on power, or a supply that is too weak
]


class Skipped(Message):
    """A clip, or the rest of it, that nobody will answer. Schema ``edgeclip.skipped/1``.

    Attributes:
        status: ``partial`` where some of its prompts were answered before; the ledger counts the clip so.
        answered: These prompts.
    """

    schema_: Literal["edgeclip.skipped/1"] = Field("edgeclip.skipped/1", alias="schema")
    id: str
    clip_id: str
    seq: Annotated[int, Field(ge=0)]
    device: str
    camera: str
    t_start: Utc
    t_end: Utc
    clock_synced: bool
    reason: SkipReason
    detail: str
    status: Literal["skipped", "partial"] = "skipped"
    answered: tuple[str, ...] = ()


class State(Message):
    """The last headline of a camera, retained; ``id`` is the answer's. Schema ``edgeclip.state/1``."""

    schema_: Literal["edgeclip.state/1"] = Field("edgeclip.state/1", alias="schema")
    id: str
    device: str
    camera: str
    clip_id: str
    prompt: str
    time: Utc
    status: Literal["answered", "partial"]
    headline: Annotated[str, Field(max_length=HEADLINE_CHARS)]


class Alert(Message):
    """A watch was raised or cleared. Schema ``edgeclip.alert/1``.

    Attributes:
        rule: The operator's name for it; also the last part of the topic.
        question: The operator's words.
        state: What it is from now on.
        reason: ``answers``: so many of the last ones say so. ``changed``: the operator changed or removed the rule while
            it was raised.
        time: End of the clip that decided it.
        since: When it was raised.
        answers: The answers that decided it, oldest first.
        confidence: Of the last of these; None where no answer decided.
        answer_id: ``id`` of the answer that holds it, or "".
    """

    schema_: Literal["edgeclip.alert/1"] = Field("edgeclip.alert/1", alias="schema")
    id: str
    device: str
    camera: str
    rule: str
    question: str
    state: Literal["raised", "cleared"]
    reason: Literal["answers", "changed"]
    time: Utc
    since: Utc
    clip_id: str
    seq: int | None
    answer_id: str
    answers: tuple[Verdict, ...]
    confidence: Confidence | None


class WatchState(Message):
    """How one watch stands, retained. Schema ``edgeclip.watch/1``.

    Attributes:
        state: ``raised`` or ``clear``.
        since: Since when; None if it has never been raised.
        time: End of the last clip that was asked; None before the first.
        answer: The last answer.
    """

    schema_: Literal["edgeclip.watch/1"] = Field("edgeclip.watch/1", alias="schema")
    id: str
    device: str
    camera: str
    rule: str
    question: str
    state: Literal["raised", "clear"]
    since: Utc | None
    time: Utc | None
    answer: Verdict | None
    clip_id: str


class DroppedSpan(Message):
    """What was dropped of one topic.

    ``count`` messages of clips ``first_seq`` to ``last_seq``: those that did not come before and will not come any more.
    After an outage these are all of the span. The numbers are None where the messages belonged to no clip.
    """

    topic: str
    count: Annotated[int, Field(ge=1)]
    first_seq: int | None
    last_seq: int | None


class Dropped(Message):
    """Messages that were given up undelivered because the outbox had no room for them. Schema ``edgeclip.dropped/1``.

    Sent before the camera's next message, one span a topic, so it is small however many they are. What is dropped while
    an announcement is on its way is told by another one, which then holds the first one's spans too.
    """

    schema_: Literal["edgeclip.dropped/1"] = Field("edgeclip.dropped/1", alias="schema")
    id: str
    device: str
    camera: str
    count: Annotated[int, Field(ge=1)]
    spans: tuple[DroppedSpan, ...]


class Coverage(Message):
    """Seconds of video since the state epoch began, by what became of them.

    ``total`` = ``answered`` + ``partial`` + ``skipped`` + ``in_hand``; ``percent`` is the share of the time that has
    ended which is accounted for, and is 100 as long as the service keeps its promise.
    """

    total: float
    answered: float
    partial: float
    skipped: float
    in_hand: float
    percent: float


class CameraHealth(Message):
    """State of one camera."""

    camera: str
    state: Literal["starting", "live", "away", "ended", "stopped"]
    clips_in_hand: int
    restarts: int
    coverage: Coverage
    paused: bool = False
    rung: int = 0


class GovernorHealth(Message):
    """How much is done, and what the machine says of itself; None where it cannot tell.

    Attributes:
        rung: For all cameras; a camera that is too much for its budget stands lower, see `CameraHealth`.
        name: What the rung means.
        causes: Why it is not 0.
        throttled: The processor is slowed because of heat.
        under_voltage: The supply is too weak.
        memory_available: Share of memory.
        battery_percent: Of a battery that the machine lives on.
        power_w: Measured while the model works.
        work: Seconds of work per second of video of all cameras together that are expected at the present rungs.
    """

    rung: int
    name: str
    causes: tuple[str, ...]
    throttled: bool | None
    under_voltage: bool | None
    memory_available: float | None
    battery_percent: float | None
    power_w: float | None
    work: float | None


class CommandTotals(Message):
    """Commands since the service started, by how they were answered, and the refused ones by their reason."""

    done: int = 0
    failed: int = 0
    refused: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)


class Health(Message):
    """State of the device, retained. Schema ``edgeclip.health/1``.

    ``outbox_dropped`` counts messages that were given up because the outbox was full, since the state epoch began;
    ``outbox_trouble`` says why the disk does not hold everything, or what was wrong with the outbox when the service
    started, or is empty.
    """

    schema_: Literal["edgeclip.health/1"] = Field("edgeclip.health/1", alias="schema")
    id: str
    device: str
    time: Utc
    clock_synced: bool
    uptime_s: float
    software: str
    model: str
    note: str
    coverage: Coverage
    cameras: tuple[CameraHealth, ...]
    engine: Literal["starting", "idle", "busy", "stopped"]
    engine_restarts: int
    outbox_pending: int
    outbox_bytes: int
    outbox_dropped: int
    outbox_trouble: str = ""
    rss_mib: float
    temperature_c: float | None
    commands: CommandTotals = CommandTotals()
    governor: GovernorHealth | None = None


# --- Commands ----------------------------------------------------------------------------------------------------------

Verb = Literal["ask", "analyse-now", "pause", "resume", "reload", "snapshot"]
VERBS: tuple[Verb, ...] = get_args(Verb)

RefusalReason = Literal[
    "retained",  # a retained command would be carried out again at every connect
    "rate_limited",  # more commands than [commands] per_minute; this refusal alone is sent at QoS 0
    "too_large",  # beyond the cap of a payload
    "too_deep",  # nested, and a command is flat
    "malformed",  # no JSON object, or not one of this schema
    "unknown_verb",
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


def clip_id(device: str, camera: str, epoch: str, seq: int) -> str:
    """Return the UUIDv5 of a clip; ``epoch`` is the outbox's state epoch (or a file's identity at the shell)."""
    return str(uuid.uuid5(NAMESPACE, f"{device}/{camera}/{epoch}/{seq}"))


def message_id(clip: str, name: str) -> str:
    """Return the UUIDv5 of what is said of a clip under a prompt's name (or "skipped")."""
    return str(uuid.uuid5(uuid.UUID(clip), name))
