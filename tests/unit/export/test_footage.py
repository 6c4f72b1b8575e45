"""Frames to verify with: what can be read is read on the grid, what cannot is one clear error."""

import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from edge.errors import EmptyVideoError, VideoError
from export.footage import draw, read_image, read_video


def encode(path: Path, pts: list[int], rate: int) -> Path:
    """Write one picture per entry of ``pts``, which counts in 1/rate seconds; picture i is grey of level 20 i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i, at in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * i, np.uint8), format="rgb24")
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels(frames: np.ndarray) -> list[int]:
    return [round(float(frame.mean()) / 20) for frame in frames]


def test_each_tick_shows_the_last_picture_at_or_before_it(tmp_path: Path) -> None:
    path = encode(tmp_path / "uneven.mp4", [0, 1, 2, 6, 7, 8], 16)  # a hole from 2/16 to 6/16 of a second
    assert levels(read_video(path, 9)) == [0, 2, 2, 3, 5]  # ticks at 0, 2, 4, 6 and 8 sixteenths


def test_no_more_frames_than_asked_for_and_never_less_than_a_pair(tmp_path: Path) -> None:
    path = encode(tmp_path / "even.mp4", list(range(10)), 8)
    assert levels(read_video(path, 4)) == [0, 1, 2, 3]
    assert levels(read_video(encode(tmp_path / "one.mp4", [0], 8), 4)) == [0, 0]


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_what_is_no_video_or_picture_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match="cannot be decoded"):
        read_video(path, 4)
    with pytest.raises(VideoError, match="cannot be read as a picture"):
        read_image(path)
    with pytest.raises(VideoError):
        read_video(tmp_path / "missing.mp4", 4)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(EmptyVideoError):
        read_video(path, 4)


def test_a_picture_is_read_as_rgb(tmp_path: Path) -> None:
    rgb = draw(1, 20, 30)[0]
    Image.fromarray(rgb).convert("RGBA").save(tmp_path / "picture.png")
    np.testing.assert_array_equal(read_image(tmp_path / "picture.png"), rgb)


def test_a_drawn_scene_moves_and_is_the_same_each_time() -> None:
    frames = draw(5, 96, 128)
    assert frames.shape == (5, 96, 128, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, draw(5, 96, 128))
    assert all((a != b).any() for a, b in itertools.pairwise(frames))
