"""What `edge demo` says is true of a clip: what happens in it, in its own time, and what is there at its end or in its key frame."""

from pathlib import Path

import av
import numpy as np

from edge.demo import video
from edge.demo.world import frames, truth


def test_every_event_is_told_in_the_clips_in_which_it_happens() -> None:
    film = video.Video(Path("unused"), video.packaged())
    for seconds in (20.0, 30.0, 60.0):
        shown = [film.clip(number, seconds) for number in range(round(60 / seconds))]
        for event in truth(film.scene).events:
            told = [clip for clip in shown if event in clip.events]
            assert told
            assert told[0].begin_s <= event.start_s < told[0].begin_s + seconds
            line = f"{event.start_s - told[0].begin_s:.1f} to {event.end_s - told[0].begin_s:.1f} s: {event.what}"
            assert line in told[0].lines("summary")
        assert sum(len(clip.events) for clip in shown) >= len(truth(film.scene).events)


def test_what_can_be_seen_is_that_of_the_clips_last_picture() -> None:
    film = video.Video(Path("unused"), video.packaged())
    true = truth(film.scene)
    assert film.clip(0, 20.0).sights == true.sights(20 * video.FPS - 1)
    assert film.clip(0, 60.0).sights == true.sights(-1)
    for number in range(3):
        clip = film.clip(number, 20.0)
        assert [line.partition(" at ")[0] for line in clip.lines("spatial")] == [
            sight.label for sight in clip.sights
        ]


def test_what_can_be_seen_is_that_of_the_key_frame_where_there_is_one() -> None:
    film = video.Video(Path("unused"), video.packaged())
    true = truth(film.scene)
    comes = next(event for event in true.events if event.kind == "enter")
    number, at_s = int(comes.end_s // 20), comes.end_s % 20
    shown = film.clip(number, 20.0, at_s)
    assert shown.sights == true.sights(round(comes.end_s * video.FPS))
    assert shown.sights != film.clip(number, 20.0).sights
    assert film.clip(2, 20.0, 20.0).sights == true.sights(-1)


def test_another_seed_is_another_video(tmp_path: Path) -> None:
    film = video.video(tmp_path, 5)
    assert film.scene.seed == 5
    assert film.scene != video.packaged()
    with av.open(str(film.path)) as container:
        stream = container.streams.video[0]
        assert stream.frames == film.scene.ticks
        first = next(container.decode(stream)).to_ndarray(format="rgb24").astype(int)
    assert np.abs(first - next(frames(film.scene))).mean() < 6
