"""Live cameras: the grid goes on whatever they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from edge.capture.clip import CAMERA_AWAY, NOT_YET
from edge.capture.events import Away, Back, Beat, CaptureEvent, CaptureJob, Closed, Opened, PairReady
from edge.capture.live import run_capture
from edge.capture.source import open_source
from edge.errors import CameraLostError
from edge.records import Size
from tests.integration.cameras import RtspCamera, free_port, mjpeg_camera, silent_camera
from tests.media import HEIGHT, WIDTH, Shot, bicubic, film, same_size, stamp_of, steady

PATIENCE_S = 60.0  # a test that waits so long for its events has failed


@dataclass(slots=True)
class Watch:
    """Runs a job until enough has been seen; collects its events."""

    events: list[CaptureEvent] = field(default_factory=list)
    beats: int = 0
    on_event: Callable[[CaptureEvent], None] = lambda _event: None

    def run(self, job: CaptureJob, *, until: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE_S
        run_capture(job, self._take, lambda: until() or time.monotonic() > give_up)
        assert until(), self.events

    def _take(self, event: CaptureEvent) -> None:
        if isinstance(event, Beat):
            self.beats += 1
        else:
            self.events.append(event)
        self.on_event(event)

    def of(self, kind: type[CaptureEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    @property
    def closed(self) -> list[Closed]:
        return [event for event in self.events if isinstance(event, Closed)]

    def stamps(self, seq: int) -> list[int]:
        return [
            stamp_of(picture)
            for event in self.events
            if isinstance(event, PairReady) and event.seq == seq
            for picture in event.pair.frames
        ]


def camera_job(url: str, *, seconds: float, timeout_s: float = 2.0, resume_tick: int = 0) -> CaptureJob:
    return CaptureJob(
        camera="door",
        source=url,
        size_for=same_size,
        resize=bicubic,
        fps=8.0,
        seconds=seconds,
        origin_mono_ns=time.monotonic_ns(),
        timeout_s=timeout_s,
        resume_tick=resume_tick,
    )


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds at 20 FPS with a key frame every half second."""
    shot = Shot(options=(("bf", "0"), ("g", "10")))
    return film(tmp_path_factory.mktemp("reel") / "cam.mp4", steady(800, fps=20), shot)


def test_an_rtsp_camera_fills_consecutive_clips(reel: Path) -> None:
    watch = Watch()
    with RtspCamera(reel) as camera:
        watch.run(camera_job(camera.url, seconds=2.0), until=lambda: len(watch.closed) >= 3)
    assert watch.events[0] == Opened(Size(HEIGHT, WIDTH), Size(HEIGHT, WIDTH), live=True)
    assert [event.seq for event in watch.closed] == list(range(len(watch.closed)))
    assert watch.closed[0].stats.gaps[0].reason == NOT_YET  # it took a moment to open
    full = watch.closed[-1]
    assert (full.stats.seconds, full.stats.ticks, full.stats.ticks_empty, full.stats.pairs) == (2.0, 16, 0, 8)
    shown = watch.stamps(full.seq)
    assert len(shown) == 16
    # 20 pictures a second on 8 ticks: two or three further on at each, give or take what the network's jitter moves.
    assert all(0 <= later - earlier <= 6 for earlier, later in pairwise(shown))
    assert 32 <= shown[-1] - shown[0] <= 43
    assert watch.beats
    assert not watch.of(Away)


def test_a_camera_that_dies_and_returns_leaves_a_gap_and_no_hole(reel: Path) -> None:
    watch = Watch()
    with RtspCamera(reel) as camera:

        def meddle(event: CaptureEvent) -> None:
            if (
                isinstance(event, PairReady)
                and event.seq >= 1
                and event.pair.index == 2
                and not watch.of(Away)
            ):
                camera.kill()
            elif isinstance(event, Away):
                camera.start()

        watch.on_event = meddle
        watch.run(
            camera_job(camera.url, seconds=2.0),
            until=lambda: bool(watch.of(Back)) and isinstance(watch.events[-1], Closed),
        )
    assert [type(event) for event in watch.events if isinstance(event, Away | Back | Opened)] == [
        Opened,
        Away,
        Back,
    ]
    assert [event.seq for event in watch.closed] == list(range(len(watch.closed)))
    gone = [gap for event in watch.closed[1:] for gap in event.stats.gaps if gap.reason == CAMERA_AWAY]
    assert gone
    assert sum(event.stats.ticks_empty for event in watch.closed[1:]) > 0
    for event in watch.closed:
        assert (event.stats.seconds, event.stats.ticks) == (2.0, 16)
        assert event.stats.ticks_empty <= event.stats.ticks - 2 * event.stats.pairs + 2
    assert "hunter2" not in repr(watch.events)


def test_a_camera_that_falls_silent_stands_for_the_time_out_and_no_longer(reel: Path) -> None:
    watch = Watch()
    frozen: list[int] = []
    thawed: list[int] = []
    with RtspCamera(reel) as camera:

        def meddle(event: CaptureEvent) -> None:
            if not frozen and isinstance(event, PairReady) and event.seq >= 1 and event.pair.index == 2:
                camera.freeze()
                frozen.append(event.seq)
            elif frozen and isinstance(event, Closed) and event.stats.ticks_empty:
                camera.thaw()
                thawed.append(event.seq)

        watch.on_event = meddle
        watch.run(
            camera_job(camera.url, seconds=2.0, timeout_s=3.0),
            until=lambda: bool(thawed) and isinstance(watch.events[-1], PairReady),
        )
    assert [event.seq for event in watch.closed] == list(range(len(watch.closed)))
    silent = [event.stats for event in watch.closed if event.seq >= frozen[0]]
    assert max(stats.late_max_s for stats in silent) < 3.0
    assert any(gap.reason == CAMERA_AWAY for stats in silent for gap in stats.gaps)
    assert watch.of(Back)


def test_a_camera_that_plays_and_sends_nothing_is_away_while_clips_are_closed() -> None:
    watch = Watch()
    with silent_camera(speaks=True) as url:
        watch.run(
            camera_job(url, seconds=1.0, timeout_s=1.0),
            until=lambda: bool(watch.of(Away)) and len(watch.closed) >= 4,
        )
    assert not watch.of(Opened)
    assert watch.of(Away) == 1
    assert [event.seq for event in watch.closed] == list(range(len(watch.closed)))
    for event in watch.closed:
        assert (event.stats.pairs, event.stats.ticks, event.stats.ticks_empty) == (0, 8, 8)
        assert [(gap.start_s, gap.end_s) for gap in event.stats.gaps] == [(0.0, 1.0)]
    assert "hunter2" not in repr(watch.events)


def test_a_camera_without_times_is_taken_as_its_pictures_arrive() -> None:
    watch = Watch()
    with mjpeg_camera(fps=5) as url:
        watch.run(
            camera_job(url, seconds=2.0),
            until=lambda: len(watch.closed) >= 3 and not watch.closed[-1].stats.gaps,
        )
    shown = watch.stamps(watch.closed[-1].seq)
    # A picture stands for 1.6 ticks: one or two, a few more where this machine was busy, never the eight that times
    # of 25 pictures a second would make of it.
    assert max(shown.count(number) for number in shown) <= 5
    assert 7 <= shown[-1] - shown[0] <= 11


def test_opening_a_silent_camera_gives_up() -> None:
    with silent_camera(speaks=True) as url, pytest.raises(CameraLostError) as error:
        open_source(url, timeout_s=1.0)
    assert "hunter2" not in error.value.render() + repr(error.value.__cause__)
    assert error.value.next_step


def test_the_loop_turns_and_stops_while_the_reader_is_stuck() -> None:
    watch = Watch()
    with silent_camera(speaks=False) as url:
        watch.run(
            camera_job(url, seconds=1.0, timeout_s=PATIENCE_S),
            until=lambda: len(watch.closed) >= 2 and watch.beats >= 3,
        )
    assert not watch.of(Away)  # it still has time


def test_a_refused_connection_is_tried_again_and_again() -> None:
    watch = Watch()
    url = f"rtsp://admin:hunter2@127.0.0.1:{free_port()}/cam"
    watch.run(camera_job(url, seconds=1.0), until=lambda: len(watch.closed) >= 3)
    away = [event for event in watch.events if isinstance(event, Away)]
    assert len(away) == 1  # told once, tried often
    assert "Connection refused" in away[0].reason
    assert "hunter2" not in away[0].reason
    assert [gap.reason for event in watch.closed for gap in event.stats.gaps] == [CAMERA_AWAY] * len(
        watch.closed
    )


def test_a_run_that_goes_on_joins_now_and_leaves_out_what_was_delivered() -> None:
    watch = Watch()
    url = f"rtsp://127.0.0.1:{free_port()}/cam"
    watch.run(camera_job(url, seconds=1.0, resume_tick=12), until=lambda: len(watch.closed) >= 1)
    stats = watch.closed[0].stats
    assert watch.closed[0].seq == 1
    assert (stats.ticks, stats.ticks_empty, stats.pairs) == (8, 4, 0)
    assert [(gap.start_s, gap.end_s) for gap in stats.gaps] == [(0.5, 1.0)]


def test_a_device_that_is_not_there_is_away_with_a_reason() -> None:
    with pytest.raises(CameraLostError) as error:
        open_source("/dev/video-of-no-machine", timeout_s=1.0)
    assert "No such file" in error.value.evidence[0]
    assert "/dev/video*" in error.value.next_step
