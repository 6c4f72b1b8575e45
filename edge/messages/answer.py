"""What is said of a clip: the answer, that it was skipped, and the camera's last headline."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from edge.messages.wire import HEADLINE_CHARS, SUMMARY_CHARS, TEXT_CHARS, Message, Utc, Verdict


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

    Attributes:
        valid: False where it is not between two different ones of the objects, or their boxes show something else.
        source: ``model``: it was written by the model. ``boxes``: it was worked out from the two boxes.
        confidence: Of the model's words; of what was worked out, that of the less certain box.
    """

    subject: str
    relation: str
    object: str
    valid: bool = True
    source: Literal["model", "boxes"] = "model"
    confidence: Probability | None = None


class Watched(Message):
    """The answer to one question of a watch.

    Attributes:
        rule: The operator's name for it.
        question: The operator's words.
        answer: What holds: a yes that did not stand the second look is ``unsure``.
        first: What was answered at first.
        check: What the second look said; None where there was none.
        seen: What the model wrote that it saw before it said ``first``, or ``check`` where there was one.
        confidence: Probability of ``first``, or of ``check`` where there was one, among yes, no and unsure.
    """

    rule: str
    question: str
    answer: Verdict
    first: Verdict
    check: Verdict | None = None
    seen: str = ""
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
        result: Of a question with a schema of the asker's: the object that the model wrote, valid under that schema; None
            otherwise. ``headline`` holds its beginning in words, and ``text`` is empty.
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
    result: dict[str, JsonValue] | None = None
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
