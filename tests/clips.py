"""Clips for tests of the dispatcher: a short grid, and pairs, statistics and answers on it."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np

from edge.messages import Answer, Confidence, Latency, Provenance, message_id
from edge.records import ClipPlan, ClipStats, Pair, Prompt, Size, Span

SECONDS = 2.0
FPS = 4.0
TICKS = 8
PAIRS = 4
BACKLOG = 2
PAIR_NS = 500_000_000
CLIP_NS = 2_000_000_000
MONO_0 = 7_000_000_000_000
UTC_0 = 1_800_000_000_000_000_000
FIRST_SEQ = 5
PROMPTS = (Prompt("summary", "summary", "What?", 64), Prompt("spatial", "spatial", "Where?", 64))
SIZE = Size(2, 2)


def make_answer(plan: ClipPlan, stats: ClipStats, prompt: str) -> Answer:
    return Answer(
        id=message_id(plan.clip_id, prompt),
        clip_id=plan.clip_id,
        seq=plan.seq,
        device="d",
        camera=plan.camera,
        prompt=prompt,
        kind="summary",
        t_start=plan.t_start,
        t_end=plan.t_start + timedelta(seconds=stats.seconds),
        clock_synced=plan.clock_synced,
        status="partial" if stats.gaps or stats.ticks_empty else "answered",
        gaps=(),
        headline="h",
        confidence=Confidence(value=1.0),
        provenance=Provenance(
            model="m",
            bundle="b",
            recipe="r",
            note="",
            software="s",
            frames=0,
            frames_repeated=0,
            pairs=stats.pairs,
            pairs_offered=stats.pairs,
            fps_effective=8.0,
            frame_height=2,
            frame_width=2,
            tokens_in=1,
            tokens_out=1,
            rung=0,
            latency=Latency(capture=0, vision=0, prefill=0, decode=0),
            temperature_c=None,
            energy_j=None,
            truncated=False,
            repaired=False,
        ),
    )


def make_pair(seq: int, index: int, camera: int = 0, side: int = 2) -> Pair:
    """Make a pair whose pixels say where it comes from."""
    frames = np.zeros((2, side, side, 3), np.uint8)
    frames[..., 0], frames[..., 1], frames[..., 2] = seq % 251, index, camera
    return Pair(index, (2 * index + 0.5) / FPS, frames)


def make_stats(pairs: int, *, seconds: float = SECONDS, gaps: tuple[Span, ...] = ()) -> ClipStats:
    ticks = math.ceil(seconds * FPS)
    return ClipStats(seconds, ticks, 2 * pairs, 0, max(0, ticks - 2 * pairs), pairs, 0.0, gaps, 0.0)
