"""The gate on real footage, on the way that pairs take from a file: what people do is kept, and most of the rest is not."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.capture.events import CaptureEvent, CaptureJob, Closed, Gated, PairReady
from edge.capture.file import FileClip
from edge.capture.live import run_capture
from edge.demo.world import Stage, draw_scene, encode, truth
from edge.model.preprocess import scale
from edge.records import ClipStats, Pair, Size
from edge.share import demo_clip
from export.demo.evaluate import FIRST_SEED
from export.demo.exam import LENGTHS_S
from export.demo.labels import CAMERA, FRAME
from tests.media import vtest

PEOPLE = Path(__file__).parent / "vtest_people.json"
NEAR_S = 0.5
FPS = 8.0


def kept(video: Path, *, gate: float | None, seconds: float = 60.0) -> tuple[list[Pair], ClipStats]:
    """Return what reaches the model of a clip, and what was counted."""
    with FileClip(
        video,
        start_s=0,
        seconds=seconds,
        fps=FPS,
        size_for=lambda _source: Size(192, 256),
        resize=scale,
        scale="fast",
        gate=gate,
    ) as clip:
        return list(clip.pairs()), clip.stats()


def test_everybody_who_comes_or_goes_in_a_busy_minute_is_near_a_kept_pair() -> None:
    pairs, stats = kept(vtest(), gate=1.0)
    times = np.array([pair.time_s for pair in pairs])
    people = json.loads(PEOPLE.read_text(encoding="utf-8"))
    far = {
        f"{kind} {each['tick']}: {each['who']}": round(float(np.abs(times - each["tick"] / FPS).min()), 2)
        for kind in ("came", "went")
        for each in people[kind]
        if np.abs(times - each["tick"] / FPS).min() > NEAR_S
    }
    saved = stats.pairs_gated / stats.pairs
    sys.stdout.write(
        f"{len(people['came'])} came and {len(people['went'])} went; {100 * saved:.1f} % of the work saved\n"
    )
    assert far == {}
    assert stats.pairs == 240
    assert stats.pairs_gated + len(pairs) == 240
    assert saved >= 0.75


@pytest.mark.parametrize(
    ("stage", "seed", "most"),
    [("b", FIRST_SEED + number, 1 / 3) for number in (4, 41, 46, 58)]
    + [("c", 3_000_000 + number, 1 / 2) for number in (17, 21, 34)],  # more happens there
)
def test_where_a_camera_trembles_whatever_begins_or_ends_is_near_a_kept_pair(
    stage: Stage, seed: int, most: float, tmp_path: Path
) -> None:
    """In the first one a car sets out that trembled for six seconds, in the last three somebody who trembled for one or less.

    There motion is nothing new but for its strength.
    """
    scene = draw_scene(
        seed,
        stage,
        seconds=LENGTHS_S[stage][seed % len(LENGTHS_S[stage])],
        fps=FPS,
        size=CAMERA,
        split="held_out",
    )
    assert scene.shake
    film = encode(scene, tmp_path / "clip.mp4")
    with FileClip(
        film,
        start_s=0,
        seconds=scene.seconds,
        fps=FPS,
        size_for=lambda _source: FRAME,
        resize=scale,
        gate=1.0,
    ) as clip:
        times = np.array([pair.time_s for pair in clip.pairs()])
    happened = truth(scene).events
    assert happened
    for event in happened:
        for at_s in (event.start_s, event.end_s):
            assert np.abs(times - at_s).min() <= NEAR_S, event.what
    assert len(times) < most * scene.seconds * FPS / 2


def test_kept_pairs_are_those_of_the_grid_untouched() -> None:
    every, _ = kept(vtest(), gate=None, seconds=10)
    chosen, stats = kept(vtest(), gate=1.0, seconds=10)
    assert 1 < len(chosen) < len(every) == stats.pairs == 40
    assert [pair.gated for pair in every] == [0] * 40
    for pair in chosen:
        assert pair.time_s == every[pair.index].time_s
        assert np.array_equal(pair.frames, every[pair.index].frames)
    indices = [pair.index for pair in chosen]
    assert (indices[0], indices[-1]) == (0, 39)
    assert [pair.gated for pair in chosen] == [0, *(np.diff(indices) - 1)]


def test_a_still_camera_whose_light_strays_and_which_shakes_sends_one_pair_in_twenty(tmp_path: Path) -> None:
    drawn = draw_scene(3, "c", size=Size(96, 128))
    still = replace(drawn, sprites=(), noise=5.0, drift=0.1, shake=0.01)
    pairs, stats = kept(encode(still, tmp_path / "still.mp4"), gate=1.0)
    assert stats.pairs == 240
    assert stats.pairs_gated >= 0.95 * 240
    assert max(pair.gated for pair in pairs) < 40  # an anchor every 10 s


@pytest.mark.parametrize("threshold", [None, 1.0])
def test_a_clip_cut_short_by_the_end_of_its_video_keeps_its_last_pair(threshold: float | None) -> None:
    with FileClip(
        vtest(),
        start_s=70,
        seconds=60,
        fps=FPS,
        size_for=lambda _source: Size(192, 256),
        resize=scale,
        scale="fast",
        gate=threshold,
    ) as clip:
        pairs = list(clip.pairs())
        assert pairs[-1].index == clip.stats().pairs - 1
        assert clip.stats().gate == threshold


def job() -> CaptureJob:
    """Return the demo's clip in three parts, at a size at which two pairs are kept at once, with one dropped between."""
    return CaptureJob(
        camera="yard",
        source=str(demo_clip()),
        size_for=lambda _source: Size(96, 128),
        resize=scale,
        fps=FPS,
        seconds=20.0,
        origin_mono_ns=0,
        realtime=False,
        scale="fast",
        gate=1.0,
    )


def test_what_is_sent_of_a_live_clip_accounts_for_every_pair_in_the_order_of_the_grid() -> None:
    events: list[CaptureEvent] = []
    run_capture(job(), events.append, lambda: False)
    for seq in range(3):
        told: list[int] = []
        for event in events:
            if isinstance(event, PairReady) and event.seq == seq:
                told.append(event.pair.index)
            elif isinstance(event, Gated) and event.seq == seq:
                told += event.indices
        assert told == list(range(80))
        (closed,) = (event for event in events if isinstance(event, Closed) and event.seq == seq)
        sent = sum(isinstance(event, PairReady) and event.seq == seq for event in events)
        assert (closed.stats.pairs, closed.stats.pairs_gated, closed.stats.gate) == (80, 80 - sent, 1.0)


def test_another_threshold_holds_from_the_next_clip_on() -> None:
    events: list[CaptureEvent] = []

    def wanted() -> float | None:
        return (1.0, None, 0.0)[sum(isinstance(event, Closed) for event in events) % 3]

    run_capture(job(), events.append, lambda: False, gate=wanted)
    first, second, third = (event.stats for event in events if isinstance(event, Closed))
    assert (first.gate, second.gate, third.gate) == (1.0, None, 0.0)
    assert first.pairs_gated > 40
    assert second.pairs_gated == third.pairs_gated == 0
