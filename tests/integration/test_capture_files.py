"""Clips of real encoded files: which picture every tick shows, read from the pictures themselves."""

from __future__ import annotations

import gc
import os
import struct
import time
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from edge.capture.events import Away, Beat, CaptureEvent, CaptureJob, Closed, Ended, Opened, PairReady, Scale
from edge.capture.file import FileClip
from edge.capture.live import run_capture
from edge.errors import EmptyVideoError, VideoError
from edge.records import ClipStats, Pair, Size
from tests.media import (
    HEIGHT,
    WIDTH,
    Shot,
    bicubic,
    film,
    red_corner,
    same_size,
    scikit_clips,
    small_size,
    stamp_of,
    stamped,
    stamps,
    steady,
    vtest,
)

TENTH = Fraction(1, 10)
B_FRAMES = Shot(options=(("bf", "3"), ("b_strategy", "0"), ("g", "12")))


@dataclass(slots=True)
class Read:
    """What came out of one clip."""

    pairs: list[Pair]
    stats: ClipStats
    source_size: Size

    @property
    def ticks(self) -> list[int]:
        return stamps(pair.frames for pair in self.pairs)


def read(
    path: Path, *, start_s: float = 0.0, seconds: float = 60.0, fps: float = 8.0, scale: Scale = "exact"
) -> Read:
    with FileClip(
        path, start_s=start_s, seconds=seconds, fps=fps, size_for=same_size, resize=bicubic, scale=scale
    ) as clip:
        return Read(list(clip.pairs()), clip.stats(), clip.source_size)


def due(times_ms: Sequence[float], end_ms: float, *, start_ms: float = 0.0, fps: float = 8.0) -> list[int]:
    """The picture of every tick by definition, the last one twice where their number is odd."""
    ticks: list[int] = []
    while (at := start_ms + len(ticks) * 1000 / fps) < end_ms - 1e-3:
        ticks.append(max(number for number, time_ms in enumerate(times_ms) if time_ms <= at + 1e-3))
    return ticks + ticks[-1:] * (len(ticks) % 2)


@pytest.mark.parametrize("scale", ["exact", "fast"])
def test_a_steady_file_gives_each_tick_the_last_picture_before_it(tmp_path: Path, scale: Scale) -> None:
    times = steady(30, fps=10)
    found = read(film(tmp_path / "clip.mp4", times), scale=scale)
    assert found.ticks == due(times, 3000)
    assert found.stats.seconds == 3.0
    assert (found.stats.ticks, found.stats.pairs, found.stats.frames_decoded) == (24, 12, 30)
    assert (found.stats.ticks_empty, found.stats.gaps) == (0, ())
    assert [pair.index for pair in found.pairs] == list(range(12))
    assert [pair.time_s for pair in found.pairs] == [0.0625 + 0.25 * index for index in range(12)]
    assert all(pair.frames.shape == (2, HEIGHT, WIDTH, 3) for pair in found.pairs)
    assert found.stats.decode_s > 0


def test_b_frames_are_taken_in_the_order_of_presentation(tmp_path: Path) -> None:
    times = steady(40, fps=20)
    path = film(tmp_path / "clip.mp4", times, B_FRAMES)
    with av.open(str(path)) as container:
        stored = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert stored != sorted(stored)
    assert read(path).ticks == due(times, 2000)


def test_a_variable_rate_is_taken_by_time_not_by_index(tmp_path: Path) -> None:
    times = [0, 40, 300, 310, 320, 900, 2500, 2510]
    found = read(film(tmp_path / "clip.mkv", times))
    assert found.ticks[:20] == due(times, 2500)
    assert found.ticks[20] == 6
    assert found.stats.ticks_repeated == 21 - 5
    assert [(gap.start_s, gap.end_s) for gap in found.stats.gaps] == [(0.9, 2.5)]
    assert found.stats.late_max_s == pytest.approx(2.375 - 0.9)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts", "clip.mkv"])
def test_time_counts_from_the_first_picture_wherever_the_file_begins(tmp_path: Path, name: str) -> None:
    times = steady(30, fps=10)
    path = film(tmp_path / name, [5000 + at for at in times])
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).time >= 4
    assert read(path).ticks == due(times, 3000)


def test_pictures_that_an_edit_list_cuts_off_are_not_shown(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mp4", steady(30, fps=10))
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 4 + 4 + 4 + 4  # type, version, count, duration; then the media time
    with av.open(str(path)) as container:
        scale = int(1 / container.streams.video[0].time_base)
    struct.pack_into(">i", data, entry, 3 * scale // 10)
    path.write_bytes(data)
    assert read(path).ticks[:4] == [3, 4, 5, 6]


@pytest.mark.parametrize("scale", ["exact", "fast"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_recording_is_seen_upright(tmp_path: Path, degrees: int, scale: Scale) -> None:
    found = read(film(tmp_path / "clip.mp4", steady(3, fps=10), Shot(rotation=degrees)), scale=scale)
    upright = np.rot90(stamped(0), degrees // 90)
    assert found.source_size == Size(*upright.shape[:2])
    picture = found.pairs[0].frames[0]
    assert picture.shape == upright.shape
    assert red_corner(picture) == red_corner(upright)
    assert np.abs(picture.astype(int) - upright).mean() < 12


def test_exact_pixels_are_those_of_pyav_scaled_by_the_caller(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mp4", steady(8, fps=8))
    with FileClip(path, start_s=0, seconds=60, fps=8, size_for=small_size, resize=bicubic) as clip:
        found = [picture for pair in clip.pairs() for picture in pair.frames]
    with av.open(str(path)) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(found, [bicubic(rgb, small_size(Size(0, 0))) for rgb in whole])


@pytest.mark.parametrize("gate", [None, 1.0], ids=["all pairs", "gated"])
def test_a_key_frame_is_one_of_the_clips_pictures_at_full_size(tmp_path: Path, gate: float | None) -> None:
    path = film(tmp_path / "clip.mp4", steady(40, fps=8))
    with FileClip(
        path, start_s=0, seconds=60, fps=8, size_for=small_size, resize=bicubic, gate=gate, stills=True
    ) as clip:
        assert list(clip.pairs())
        still = clip.still
    assert still is not None
    assert still.rgb.shape == (clip.source_size.height, clip.source_size.width, 3)
    assert (still.time_s * 8) % 2 == 0
    assert stamp_of(still.rgb) == steady(40, fps=8).index(round(still.time_s * 1000))


def test_a_long_file_is_cut_where_the_clip_ends(tmp_path: Path) -> None:
    found = read(film(tmp_path / "clip.mp4", steady(50, fps=10)), seconds=2.0)
    assert found.ticks == due(steady(50, fps=10), 2000)
    assert (found.stats.seconds, found.stats.ticks, found.stats.frames_decoded) == (2.0, 16, 20)


def test_a_length_between_two_ticks_keeps_both(tmp_path: Path) -> None:
    found = read(film(tmp_path / "clip.mp4", steady(50, fps=10)), seconds=2.3)
    assert (found.stats.seconds, found.stats.ticks, found.stats.pairs) == (2.3, 19, 10)
    assert found.ticks[-2:] == [22, 22]


def test_an_odd_last_tick_fills_its_pair(tmp_path: Path) -> None:
    found = read(film(tmp_path / "clip.mp4", steady(3, fps=10)))
    assert found.ticks == [0, 1, 2, 2]
    assert (found.stats.ticks, found.stats.pairs) == (3, 2)
    assert found.stats.seconds == pytest.approx(0.3)


def test_one_picture_is_one_pair(tmp_path: Path) -> None:
    found = read(film(tmp_path / "clip.mp4", [0]))
    assert found.ticks == [0, 0]
    assert (found.stats.ticks, found.stats.pairs, found.stats.frames_decoded) == (1, 1, 1)


@pytest.mark.parametrize(
    ("name", "shot"),
    [
        ("clip.mp4", Shot()),
        ("clip.mkv", B_FRAMES),
        ("clip.mp4", B_FRAMES),
        ("clip.ts", B_FRAMES),
        ("clip.avi", Shot("mpeg4", TENTH, (("g", "12"),))),
        ("clip.h264", Shot(base=TENTH)),  # has no times at all
    ],
)
@pytest.mark.parametrize("start_s", [0.05, 1.2, 2.999, 4.3])
def test_a_start_is_exact_in_every_container(tmp_path: Path, name: str, shot: Shot, start_s: float) -> None:
    times = steady(50, fps=10, base=shot.base.denominator)
    path = film(tmp_path / name, times, shot)
    ticks = read(path, start_s=start_s, seconds=2.0).ticks
    end_ms = min(5000.0, start_s * 1000 + 2000)
    assert ticks == due(steady(50, fps=10), end_ms, start_ms=start_s * 1000)


def test_a_start_after_the_end_is_an_error(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mp4", steady(10, fps=10))
    with pytest.raises(EmptyVideoError, match="ends before the clip begins") as error:
        read(path, start_s=2.0)
    assert "the video ends at 1.0 s" in error.value.evidence


@pytest.mark.parametrize(
    ("name", "container"), [("clip.ts", ()), ("clip.mkv", ()), ("clip.mp4", (("movflags", "faststart"),))]
)
def test_a_file_cut_short_yields_what_it_has(
    tmp_path: Path, name: str, container: tuple[tuple[str, str], ...]
) -> None:
    times = steady(60, fps=10)
    path = film(tmp_path / name, times, Shot(container=container))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    found = read(path)
    assert 20 <= found.stats.frames_decoded < 60
    sound = found.ticks[: 2 * found.stats.pairs - 4]  # the last picture may be half there
    assert sound == due(times, 6000)[: len(sound)]
    assert len(sound) >= 16


def test_a_damaged_middle_costs_only_itself(tmp_path: Path) -> None:
    times = steady(60, fps=10)
    path = film(tmp_path / "clip.avi", list(range(60)), Shot("mjpeg", TENTH, ()))
    data = bytearray(path.read_bytes())
    begin = len(data) // 2
    data[begin : begin + 400] = b"\x00" * 400
    path.write_bytes(data)
    found = read(path)
    wrong = [(tick, want) for tick, want in zip(found.ticks, due(times, 6000), strict=True) if tick != want]
    assert len(wrong) <= 6
    assert found.ticks[-6:] == due(times, 6000)[-6:]


def test_a_recording_joined_from_parts_of_two_sizes_keeps_one_size(tmp_path: Path) -> None:
    first = film(tmp_path / "1.ts", [9000 + at for at in steady(10, fps=10)])
    second = film(tmp_path / "2.ts", steady(10, fps=10), Shot(zoom=2), first=10)
    joined = tmp_path / "clip.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    found = read(joined)
    assert {pair.frames.shape for pair in found.pairs} == {(2, HEIGHT, WIDTH, 3)}
    assert found.ticks == due(steady(20, fps=10), 2000)


def test_a_strange_name_is_only_a_name(tmp_path: Path) -> None:
    path = film(tmp_path / "plain.mp4", steady(4, fps=10)).rename(tmp_path / "cam:1 50%03d?.mp4")
    assert read(path).ticks == due(steady(4, fps=10), 400)


def test_a_title_in_no_known_encoding_harms_nothing(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mkv", steady(4, fps=10))
    data = path.read_bytes()
    assert data.count(b"Lavf") >= 1
    path.write_bytes(data.replace(b"Lavf", b"L\xe9v\xff"))
    assert read(path).ticks == due(steady(4, fps=10), 400)


def test_only_a_few_pictures_are_in_memory_at_once(tmp_path: Path) -> None:
    """Not even as garbage in reference cycles: a full-size picture takes megabytes."""
    path = film(tmp_path / "clip.mp4", steady(100, fps=10))
    gc.collect()
    gc.disable()
    try:
        with FileClip(path, start_s=0, seconds=60, fps=8, size_for=same_size, resize=bicubic) as clip:
            most = max(sum(type(held) is av.VideoFrame for held in gc.get_objects()) for _ in clip.pairs())
    finally:
        gc.enable()
    assert 0 < most <= 12  # of 100


def _text(path: Path) -> None:
    path.write_text("no video\n" * 100)


def _sound(path: Path) -> None:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(16000))


def _headless(path: Path) -> None:
    film(path, steady(20, fps=10))
    path.write_bytes(path.read_bytes()[:2000])


def _blank(path: Path) -> None:
    film(path, steady(5, fps=10))
    data = path.read_bytes()
    begin = data.index(b"mdat") + 4
    size = int.from_bytes(data[begin - 8 : begin - 4], "big") - 8
    path.write_bytes(data[:begin] + bytes(size) + data[begin + size :])


@pytest.mark.parametrize(
    ("name", "make", "kind", "words"),
    [
        ("missing.mp4", lambda _path: None, VideoError, "there is no video"),
        ("folder.mp4", Path.mkdir, VideoError, "is a directory"),
        ("empty.mp4", Path.touch, EmptyVideoError, "is an empty file"),
        ("notes.txt", _text, VideoError, "is not a video"),
        ("notes.mp4", _text, VideoError, "is not a video"),
        ("song.wav", _sound, EmptyVideoError, "holds no video"),
        ("headless.mp4", _headless, VideoError, "is not a video"),
        ("blank.mp4", _blank, EmptyVideoError, "holds no picture"),
    ],
)
def test_what_is_no_video_is_one_clear_error(
    tmp_path: Path, name: str, make: object, kind: type[VideoError], words: str
) -> None:
    path = tmp_path / name
    assert callable(make)
    make(path)
    with pytest.raises(kind, match=words) as error:
        read(path)
    assert name in error.value.what
    assert error.value.next_step


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mp4", steady(5, fps=10))
    path.chmod(0)
    with pytest.raises(VideoError, match="may not be read"):
        read(path)


def test_vtest_gives_480_ticks_of_its_first_minute() -> None:
    with FileClip(
        vtest(), start_s=0, seconds=60, fps=8, size_for=small_size, resize=bicubic, scale="fast"
    ) as clip:
        pairs = sum(1 for _ in clip.pairs())
        stats = clip.stats()
    assert (pairs, stats.ticks, stats.pairs, stats.frames_decoded) == (240, 480, 240, 600)
    assert (stats.ticks_empty, stats.ticks_repeated, stats.gaps) == (0, 0, ())


def test_footage_of_other_cameras_fills_every_tick() -> None:
    for path in scikit_clips():
        with FileClip(
            path, start_s=0, seconds=60, fps=8, size_for=small_size, resize=bicubic, scale="fast"
        ) as clip:
            assert [pair.index for pair in clip.pairs()] == list(range(clip.stats().pairs))
            stats = clip.stats()
        assert stats.ticks_empty == stats.ticks_repeated == 0
        assert stats.ticks == 2 * stats.pairs - stats.ticks % 2


@dataclass(slots=True)
class Run:
    """The events of one run, without beats, and when each pair came."""

    events: list[CaptureEvent] = field(default_factory=list)
    beats: int = 0
    came_ns: list[int] = field(default_factory=list)

    def send(self, event: CaptureEvent) -> None:
        if isinstance(event, Beat):
            self.beats += 1
            return
        self.events.append(event)
        if isinstance(event, PairReady):
            self.came_ns.append(time.monotonic_ns())

    @property
    def pairs(self) -> list[PairReady]:
        return [event for event in self.events if isinstance(event, PairReady)]

    @property
    def closed(self) -> list[Closed]:
        return [event for event in self.events if isinstance(event, Closed)]

    @property
    def ticks(self) -> list[int]:
        return stamps(event.pair.frames for event in self.pairs)


def job(
    path: Path,
    *,
    seconds: float = 2.0,
    first_seq: int = 0,
    resume_tick: int = 0,
    realtime: bool = True,
    loop: bool = False,
) -> CaptureJob:
    return CaptureJob(
        camera="door",
        source=str(path),
        size_for=same_size,
        resize=bicubic,
        fps=8.0,
        seconds=seconds,
        origin_mono_ns=time.monotonic_ns(),
        first_seq=first_seq,
        resume_tick=resume_tick,
        realtime=realtime,
        loop=loop,
    )


def test_a_file_is_cut_into_consecutive_clips_and_ends(tmp_path: Path) -> None:
    times = steady(50, fps=10)
    run = Run()
    run_capture(job(film(tmp_path / "clip.mp4", times), first_seq=7, realtime=False), run.send, lambda: False)
    assert run.events[0] == Opened(Size(HEIGHT, WIDTH), Size(HEIGHT, WIDTH), live=False)
    assert run.events[-1] == Ended("end of file")
    assert [(event.seq, event.stats.seconds, event.stats.pairs) for event in run.closed] == [
        (7, 2.0, 8),
        (8, 2.0, 8),
        (9, 1.0, 4),
    ]
    assert run.ticks == due(times, 5000)
    assert run.beats


def test_a_looped_file_goes_on_without_a_hole(tmp_path: Path) -> None:
    run = Run()
    path = film(tmp_path / "clip.mp4", steady(17, fps=10))  # 1.7 s, no whole number of ticks
    run_capture(job(path, realtime=False, loop=True), run.send, lambda: len(run.closed) >= 4)
    expected = [int((tick * 125 % 1700) // 100) for tick in range(64)]
    assert run.ticks == expected
    assert [event.seq for event in run.closed] == [0, 1, 2, 3]
    assert not any(isinstance(event, Ended | Away) for event in run.events)


@pytest.mark.parametrize("resume_tick", [6, 16, 26, 100])
def test_a_run_that_was_killed_goes_on_at_its_next_tick(tmp_path: Path, resume_tick: int) -> None:
    path = film(tmp_path / "clip.mp4", steady(17, fps=10), B_FRAMES)
    run = Run()
    resumed = job(path, realtime=False, loop=True, resume_tick=resume_tick)
    run_capture(resumed, run.send, lambda: len(run.closed) >= 2)
    end = (resume_tick // 16 + 2) * 16
    assert run.ticks == [int((tick * 125 % 1700) // 100) for tick in range(resume_tick, end)]
    assert [event.seq for event in run.closed] == [resume_tick // 16, resume_tick // 16 + 1]
    assert run.closed[0].stats.ticks_empty == 0
    assert run.closed[0].stats.gaps == ()


def test_resuming_after_the_end_only_ends(tmp_path: Path) -> None:
    run = Run()
    path = film(tmp_path / "clip.mp4", steady(20, fps=10))
    run_capture(job(path, realtime=False, resume_tick=16), run.send, lambda: False)
    assert [type(event) for event in run.events] == [Opened, Ended]


def test_in_real_time_no_pair_comes_before_its_moment(tmp_path: Path) -> None:
    times = [0, 100, 200, 900, 1000, 1100]
    run = Run()
    played = job(film(tmp_path / "clip.mkv", times), seconds=0.5)
    run_capture(played, run.send, lambda: False)
    for event, came_ns in zip(run.pairs, run.came_ns, strict=True):
        second = event.seq * 4 + event.pair.index * 2 + 1
        if second * 125 < 1200:
            assert came_ns - played.origin_mono_ns >= second * 125_000_000
    assert run.ticks[:9] == due(times, 1200)[:9]
    assert isinstance(run.events[-1], Ended)


def test_a_size_that_changes_is_announced_between_clips(tmp_path: Path) -> None:
    first = film(tmp_path / "1.ts", [9000 + at for at in steady(15, fps=10)])
    second = film(tmp_path / "2.ts", steady(25, fps=10), Shot(zoom=2), first=15)
    joined = tmp_path / "clip.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    run = Run()
    run_capture(job(joined, realtime=False), run.send, lambda: False)
    large = Size(2 * HEIGHT, 2 * WIDTH)
    opened = [position for position, event in enumerate(run.events) if isinstance(event, Opened)]
    assert run.events[opened[1]] == Opened(large, large, live=False)
    assert isinstance(run.events[opened[1] - 1], Closed)
    shapes = {event.seq: event.pair.frames.shape for event in run.pairs}
    assert shapes == {0: (2, HEIGHT, WIDTH, 3), 1: (2, 2 * HEIGHT, 2 * WIDTH, 3)}
    assert [stamp_of(event.pair.frames[0]) for event in run.pairs] == due(steady(40, fps=10), 4000)[::2]


def test_a_stop_is_heard_between_two_pairs(tmp_path: Path) -> None:
    run = Run()
    path = film(tmp_path / "clip.mp4", steady(50, fps=10))
    run_capture(job(path, realtime=False, loop=True), run.send, lambda: len(run.pairs) >= 3)
    assert len(run.pairs) == 3


def test_a_missing_file_is_an_error_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="there is no video"):
        run_capture(job(tmp_path / "clip.mp4"), Run().send, lambda: False)
