"""What one run at the shell says of one clip: the answers, and what it took to make them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edge.messages import Answer, Message


class Video(Message):
    """What was looked at; seconds from the first picture of the file.

    Attributes:
        path: As it was given.
        seconds: Length of the whole video; None where the file does not say.
        start: Where the clip begins.
        end: Where it ends; at most the length asked for after ``start``.
        width, height: Of the video's own pictures, after rotation.
    """

    path: str
    seconds: float | None
    start: float
    end: float
    width: int
    height: int


class Counts(Message):
    """What was counted.

    Attributes:
        frames: Ticks of the grid for which there was a picture.
        frames_repeated: Of these, ticks that show the same picture as the tick before.
        frames_empty: Ticks without any picture.
        frames_decoded: Pictures that the video holds in the clip.
        packets_damaged: Packets that could not be decoded and were left out.
        pairs: Pairs of frames that the model was shown.
        pairs_gated: Pairs that the gate dropped.
        tokens_saved: Tokens that these would have taken.
        tokens_video: Tokens of the clip before any question.
        tokens_in: The longest context before an answer, question included.
        tokens_out: Tokens of all answers.
    """

    frames: int
    frames_repeated: int
    frames_empty: int
    frames_decoded: int
    packets_damaged: int
    pairs: int
    tokens_video: int
    tokens_in: int
    tokens_out: int
    pairs_gated: int = 0
    tokens_saved: int = 0


class Seconds(Message):
    """Where the time went; ``total`` also holds what none of the others counts."""

    load: float
    video: float
    vision: float
    prefill: float
    text: float
    total: float


class Memory(Message):
    """Peak resident memory; ``anonymous`` leaves out file pages, which the kernel can take back at any time."""

    peak_mib: float
    anonymous_mib: float


class ClipReport(Message):
    """The object that ``edge summarize --json`` and ``edge ask --json`` print. Schema ``edgeclip.clip/1``."""

    schema_: Literal["edgeclip.clip/1"] = Field("edgeclip.clip/1", alias="schema")
    video: Video
    model: str
    recipe: str
    bundle: str
    note: str
    fps: float
    frame_width: int
    frame_height: int
    gate: float | None = None
    counts: Counts
    seconds: Seconds
    memory: Memory
    answers: tuple[Answer, ...]


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a `ClipReport`, as it is serialised."""
    schema = ClipReport.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
