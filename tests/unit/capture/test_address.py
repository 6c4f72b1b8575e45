"""What a source's text means, and what of it people may see."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from edge.capture.address import file_path, kind_of, masked, network_options
from edge.capture.events import CaptureJob
from tests.media import bicubic, same_size


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("clip.mp4", "file"),
        ("/videos/2026:11:22.mp4", "file"),
        ("file:///videos/a%20clip.mp4", "file"),
        ("/dev/video0", "device"),
        ("/dev/v4l/by-id/usb-cam-index0", "device"),
        ("rtsp://camera/stream", "url"),
        ("http://camera/mjpeg", "url"),
    ],
)
def test_a_source_is_a_file_a_device_or_a_url(source: str, kind: Literal["file", "device", "url"]) -> None:
    assert kind_of(source) == kind


def test_a_file_url_is_a_path() -> None:
    assert file_path("file:///videos/a%20clip.mp4") == Path("/videos/a clip.mp4")
    assert file_path("a%20clip.mp4") == Path("a%20clip.mp4")


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://admin:hunter2@camera:554/stream",
        "rtsp://admin:hunter2@@camera/stream",
        "rtsp://admin:x/hunter2@camera/stream",
        "rtsp://camera/user=admin&password=hunter2&channel=1",
        "http://camera/video?usr=a&pwd=hunter2",
        "rtsp://hunter2@camera/",
    ],
)
def test_a_password_is_never_shown(source: str) -> None:
    assert "hunter2" not in masked(source)
    assert "camera" in masked(source)
    job = CaptureJob(
        camera="door",
        source=source,
        size_for=same_size,
        resize=bicubic,
        fps=8.0,
        seconds=60.0,
        origin_mono_ns=0,
    )
    assert "hunter2" not in repr(job)


def test_a_source_without_a_password_is_shown_as_it_is() -> None:
    for source in ("rtsp://camera:554/stream?channel=1", "/videos/user@home.mp4", "/dev/video0"):
        assert masked(source) == source


def test_every_protocol_gets_a_time_out_in_microseconds() -> None:
    rtsp = network_options("rtsp://camera/", transport="udp", timeout_s=1.5)
    assert (rtsp["timeout"], rtsp["rtsp_transport"]) == ("1500000", "udp")
    rtmp = network_options("rtmp://camera/", transport="tcp", timeout_s=6)
    assert rtmp == {"rw_timeout": "6000000"}  # its "timeout" would wait for a caller
    assert network_options("http://camera/", transport="tcp", timeout_s=6)["timeout"] == "6000000"
