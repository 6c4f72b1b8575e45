"""What is said of the service: what was dropped, and how it fares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edge.messages.wire import Message, Utc


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
