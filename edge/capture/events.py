"""What goes into a capture process (`CaptureJob`) and what it sends back (`CaptureEvent`); all of it pickles.

Nothing here loads PyAV, so the supervisor can speak with its children without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge.records import ClipStats, Pair, Size, Still

Scale: TypeAlias = Literal["exact", "fast"]
Resize: TypeAlias = Callable[[NDArray[np.uint8], Size], NDArray[np.uint8]]
"""Scales one RGB picture, uint8 (H, W, 3), to a size: the model's own preprocessing, handed in by the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureJob:
    """Everything a capture process needs; it is pickled, so the two callables are module-level or partials of such.

    Attributes:
        camera: The camera's id, for the log.
        source: A file, a device (``/dev/video0``) or a URL. Not part of ``repr``: it may hold a password.
        size_for: The size at which pictures of a given size reach the model.
        resize: How a picture is scaled when ``scale`` is ``"exact"``.
        fps: Ticks per second.
        seconds: Length of a clip; ``seconds * fps`` is a whole number.
        origin_mono_ns: CLOCK_MONOTONIC of the first tick of the first clip of this run.
        first_seq: Sequence number of the clip that begins there.
        resume_tick: First tick, counted from the origin, that has not been delivered; 0 at the first start. The
            counts of the clip that it lies in begin there.
        transport: RTSP's, ``"tcp"`` or ``"udp"``.
        timeout_s: Silence after which a live source counts as lost.
        realtime: Files only: at their own pace, or as fast as the receiver takes pairs.
        loop: Files only: start again at the end.
        scale: ``"exact"``: full-size RGB, then ``resize``. ``"fast"``: scaled while it is converted to RGB.
        gate: Threshold of the gate; None: every pair is sent.
        stills: Whether a sharp key frame is kept of every clip.
    """

    camera: str
    source: str = field(repr=False)
    size_for: Callable[[Size], Size]
    resize: Resize
    fps: float
    seconds: float
    origin_mono_ns: int
    first_seq: int = 0
    resume_tick: int = 0
    transport: Literal["tcp", "udp"] = "tcp"
    timeout_s: float = 6.0
    realtime: bool = True
    loop: bool = False
    scale: Scale = "exact"
    gate: float | None = None
    stills: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """The source delivers pictures; ``size`` holds for all pairs up to the next `Opened`.

    Sent before the first pair, and between two clips when the source's pictures changed their size.
    """

    source_size: Size
    size: Size
    live: bool


@dataclass(frozen=True, slots=True)
class PairReady:
    """One pair of clip ``seq``; pairs come in the order of the grid."""

    seq: int
    pair: Pair


@dataclass(frozen=True, slots=True)
class Gated:
    """Pairs of clip ``seq`` that the gate has dropped; told before a later pair comes, or within a second."""

    seq: int
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """Clip ``seq`` is over: no further pair of it will come. Every clip is closed once, in order.

    ``still`` is its key frame, where the job asks for one.
    """

    seq: int
    stats: ClipStats
    still: Still | None = None


@dataclass(frozen=True, slots=True)
class Away:
    """A live source cannot be opened or stopped delivering; ``reason`` holds no credentials."""

    reason: str


@dataclass(frozen=True, slots=True)
class Back:
    """The source that was away delivers again."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A file came to its end (its last clip has been closed); nothing follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Beat:
    """The loop turns; sent once a second whatever the source does."""


CaptureEvent: TypeAlias = Opened | PairReady | Gated | Closed | Away | Back | Ended | Beat
