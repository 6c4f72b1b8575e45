"""What the dispatcher decided and the supervisor carries out: ledger entries, messages, and work for the model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from edge.messages import Answer, SkipReason
from edge.records import ALL, ClipPlan, ClipStats, Effort, Pair, Prompt, Still


@dataclass(frozen=True, slots=True)
class ClipOpened:
    """A clip has begun: write it into the ledger."""

    camera: str
    seq: int
    clip_id: str
    t_start: datetime
    seconds: float
    clock_synced: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """Publish an answer; its clip has more to come."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class ClipEnded:
    """A clip is over: close it in the ledger, and publish its last answer or that it is skipped, in one transaction.

    Attributes:
        seconds: Length that it really got.
        answer: The last answer, if that is how it ended.
        reason: Why it, or the rest of it, is skipped; None where an answer ended it.
        detail: A few words for people.
        pairs: How many pairs of it came from capture, behind the gate.
        answered: Where the rest is skipped: the prompts that were answered before.
    """

    camera: str
    seq: int
    clip_id: str
    t_start: datetime
    t_end: datetime
    seconds: float
    clock_synced: bool
    outcome: Literal["answered", "partial", "skipped"]
    answer: Answer | None
    reason: SkipReason | None
    detail: str
    pairs: int = 0
    answered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClockStepped:
    """The wall clock was set; the camera's next clip follows it, by so many seconds."""

    camera: str
    step_s: float


@dataclass(frozen=True, slots=True)
class Begin:
    """To inference: work on this clip with so much effort, and ask these prompts."""

    plan: ClipPlan
    prompts: tuple[Prompt, ...]
    effort: Effort = ALL


@dataclass(frozen=True, slots=True)
class More:
    """To inference: the next pairs of the clip."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class End:
    """To inference: that was the last pair; answer. ``end_mono_ns`` is None for what did not happen live.

    ``still`` is the clip's key frame, if there is one.
    """

    stats: ClipStats
    end_mono_ns: int | None
    still: Still | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """To inference: answer these prompts of a clip in its memory, between two chunks of its work; `Asked` follows.

    Attributes:
        key: Of the command, for `Asked`.
        clip: The last one of the camera that was answered, or the one in hand.
    """

    key: str
    camera: str
    clip: Literal["latest", "current"]
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class Unasked:
    """The answer to an `Ask` will not come."""

    key: str
    detail: str


Effect = ClipOpened | Answered | ClipEnded | ClockStepped | Begin | More | End | Ask | Unasked
