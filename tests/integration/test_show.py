"""What the command leaves to look at: a page and a picture, of real video and the bundle inside the package."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge.answer.page.view import Asked, Seen
from edge.capture.file import FileClip
from edge.errors import EdgeError
from edge.model.preprocess import scale
from edge.records import Pair, Size
from edge.share import demo_clip
from edge.shell import Request
from edge.show import FILM, Album, Shown, write
from tests.page_material import answer, seen, view


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def edge(home: Path, *args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge", *map(str, args), "--bundle", "demo", "--seconds", "4"],
        env=os.environ | {"HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_summarize_writes_a_page_beside_its_answer(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = edge(home, "summarize", "demo", "--gate", "off", "--html", out, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    html = out.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "drawn world" in html
    assert "clip.mp4" in html
    assert html.count("<img ") >= FILM
    assert len(html) < 2_000_000


def test_ask_draws_its_boxes_on_the_picture(home: Path, tmp_path: Path) -> None:
    for name, kind in (("out.png", "PNG"), ("out.jpg", "JPEG")):
        result = edge(home, "ask", demo_clip(), "Where is the car?", "--image", tmp_path / name)
        assert (result.returncode, result.stderr) == (0, "")
        with Image.open(tmp_path / name) as picture:
            assert (picture.format, picture.size) == (kind, (640, 480))


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--html", "", "is a directory"),
        ("--html", "missing/report.html", "there is no directory"),
        ("--image", "out.tiff", "ends in none of .png, .jpg, .jpeg"),
        ("--image", "missing/out.png", "there is no directory"),
    ],
)
def test_a_file_that_cannot_be_is_refused_before_any_work(
    home: Path, tmp_path: Path, option: str, name: str, said: str
) -> None:
    result = edge(home, "ask", demo_clip(), "What?", option, tmp_path / name, COLUMNS="300")
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_a_file_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="cannot be written"):
        write(tmp_path / ("x" * 300), b"")


def test_a_terminal_gets_bars_and_colours_and_no_color_is_heeded(home: Path) -> None:
    shown = {}
    for no_color in ("", "1"):
        mine, terminal = pty.openpty()
        with subprocess.Popen(
            [
                sys.executable,
                "-m",
                "edge",
                "summarize",
                str(demo_clip()),
                "--bundle",
                "demo",
                "--seconds",
                "4",
            ],
            env=os.environ
            | {"HOME": str(home), "TERM": "xterm", "NO_COLOR": no_color, "PYTHONUTF8": "1", "COLUMNS": "100"},
            stdout=terminal,
            stderr=subprocess.PIPE,
        ) as process:
            os.close(terminal)
            shown[no_color] = drained(mine)
            assert process.wait(60) == 0
    assert b"\x1b[33mnote: " in shown[""]
    assert b"\x1b" not in shown["1"]
    plain = re.sub(rb"\x1b\[\d+m", b"", shown[""])
    assert plain.split(b"looked at")[0] == shown["1"].split(b"looked at")[0]


def drained(descriptor: int) -> bytes:
    read = b""
    try:
        while part := os.read(descriptor, 4096):
            read += part
    except OSError:  # the other end is closed
        pass
    os.close(descriptor)
    return read


def pair(index: int) -> Pair:
    frames = np.full((2, 4, 6, 3), index % 256, np.uint8)
    frames[1] = 255
    return Pair(index, (2 * index + 0.5) / 8, frames)


@pytest.mark.parametrize("pairs", [1, 3, 8, 63, 64, 65, 240, 2400])
def test_an_album_spreads_its_pictures_over_a_clip_of_any_length(pairs: int) -> None:
    album = Album(8.0)
    for index in range(pairs):
        album.see([pair(index)])
    length_s = pairs / 4
    film = album.film(length_s)
    assert 1 <= len(film) <= FILM
    assert len(film) == min(pairs, FILM)
    for place, shot in enumerate(film):
        assert abs(shot.time_s - (place + 0.5) * length_s / len(film)) <= max(0.25, length_s / 32)
        assert (shot.rgb == round(shot.time_s * 4) % 256).all()
    assert album.last is not None
    assert album.last.time_s == (2 * pairs - 1) / 8
    assert (album.last.rgb == 255).all()


def test_an_album_of_a_gate_knows_how_much_had_changed() -> None:
    for gated, score in ((True, 0.25), (False, None)):
        album = Album(8.0, gated=gated)
        album.see([replace(pair(7), score=0.25)])
        assert album.seen == (Seen(7, score),)


def test_what_an_album_keeps_is_its_own() -> None:
    album, shown = Album(8.0), pair(7)
    album.see([shown])
    shown.frames[:] = 0
    assert (album.film(1.0)[0].rgb == 7).all()


@pytest.mark.parametrize(
    "seconds", [4.0, 4.875], ids=["a full last pair", "a last pair that repeats a picture"]
)
def test_the_picture_with_boxes_is_the_last_one_that_the_model_saw(seconds: float) -> None:
    request = Request(demo_clip(), Path("unused"), start_s=1.0, seconds=seconds, fps=8.0)
    album = Album(8.0)
    with clip_of(request) as clip:
        for found in clip.pairs():
            album.see([found])
        sharp = found.frames[1]
    report = view(
        "x", answer("spatial", "x", objects=(seen("car", 0, 0, 1, 1, valid=False),), relations=())
    ).report
    report = report.model_copy(
        update={"video": report.video.model_copy(update={"start": 1.0, "end": 1.0 + seconds})}
    )
    picture: Any = Image.open(io.BytesIO(Shown(request, report, album, (Asked("ask", "?"),)).picture("png")))
    expected = Image.fromarray(sharp).resize((640, 480), Image.Resampling.LANCZOS)
    assert (np.asarray(picture) == np.asarray(expected)).all()


def clip_of(request: Request) -> FileClip:
    return FileClip(
        request.video, start_s=request.start_s, seconds=request.seconds, fps=request.fps,
        size_for=lambda source: Size(source.height, source.width), resize=scale,
    )  # fmt: skip
