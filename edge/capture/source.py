"""Opening and decoding of files, devices and URLs with PyAV; its errors become ours here."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Literal, Self

import av
from av.stream import Discard, Disposition

from edge.capture.address import file_path, kind_of, masked, network_options
from edge.capture.clip import NS
from edge.capture.picture import Decoded, Wrapper
from edge.errors import CameraLostError, EmptyVideoError, VideoError
from edge.records import Size

# A camera may need this long until its next key frame, before which nothing can be decoded.
NO_PICTURE_S = 30.0
END_OF_FILE = "end of file"
FALLBACK_RATE = 25  # pictures per second where neither the container nor the codec says

# FFmpeg's demuxer for ANSI art opens every .txt as a video of a terminal.
NOT_VIDEO = frozenset({"tty"})

# Demuxers of bare pictures: their times are only counted up, 25 a second, whatever the camera's rate.
UNTIMED = frozenset({"mpjpeg", "mjpeg", "h264", "hevc", "m4v"})

# Messages from FFmpeg's threads can deadlock Python's logging, and they show URLs with their passwords.
av.logging.set_level(None)


class Source:
    """One opened source; made by `open_source`, closed by ``close`` or the end of a ``with`` block.

    Attributes:
        name: The source as people may see it.
        live: Whether it is a camera rather than a file.
        size: Size of its first picture, upright.
        duration_s: Length that the container claims, or None.
        nominal_ns: Duration of a picture that does not say its own.
        damaged: Packets that could not be decoded and were left out.
        ended: Why ``frames`` ended, once it has.
    """

    def __init__(self, container: Any, name: str, *, live: bool) -> None:
        self.name = name
        self.live = live
        self.damaged = 0
        self.ended = ""
        self._reason = ""  # of the latest damage
        self._container = container
        self._stream = _video_stream(container, name)
        # Frame threads are fastest, and each holds pictures back; a camera's are wanted at once.
        self._stream.thread_type = "SLICE" if live else "AUTO"
        rate = self._stream.guessed_rate or self._stream.average_rate or FALLBACK_RATE
        self.nominal_ns = int(NS / rate)
        self.duration_s = None if live else _duration_s(container, self._stream)
        if live and not self._stream.codec_context.width:
            raise CameraLostError(
                f"the camera {name} announced a video and sent none of it",
                next_step="Open its stream in another player; if that works, raise the camera's timeout_s.",
            )
        timed = not (live and container.format.name in UNTIMED)
        self._wrapper = Wrapper(self._stream.time_base, timed=timed)
        self._decoding = self._decode()
        first = next(self._decoding, None)
        if first is None:
            raise EmptyVideoError(
                f"the video {name} holds no picture that can be decoded",
                evidence=[f"{self.damaged} damaged packets: {self._reason}"] if self.damaged else [],
                next_step="Copy it again from where it comes from.",
            )
        self.size: Size = first.size
        self._frames: Iterator[Decoded] = itertools.chain((first,), self._decoding)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the decoder and the connection."""
        self._decoding.close()
        self._frames = iter(())
        self._container.close()

    def frames(self) -> Iterator[Decoded]:
        """Return the pictures from here on, in the order of presentation; calling it again goes on.

        A damaged packet is counted and left out; a file that is damaged at its end yields what it has.

        Raises:
            CameraLostError: (from the iterator) A live source stopped delivering.
        """
        return self._frames

    def seek(self, pts_ns: int) -> bool:
        """Go to the key picture at or before a presentation time of a file; False where that is not possible."""
        base = self._stream.time_base
        try:
            self._container.seek(pts_ns * base.denominator // (NS * base.numerator), stream=self._stream)
        except av.FFmpegError:
            return False
        self._decoding.close()
        self.ended = ""
        self._frames = self._decoding = self._decode()
        return True

    def _decode(self) -> Generator[Decoded, None, None]:
        packets = self._container.demux(self._stream)
        seen = time.monotonic()
        cost_s = 0.0
        while True:
            started = time.perf_counter()
            packet = self._next_packet(packets)
            if not self.live:  # waiting for a camera is no work
                cost_s += time.perf_counter() - started
            if packet is not None and packet.size == 0:
                continue  # AVI says "as before" this way; to the decoder it would mean the end
            started = time.perf_counter()
            frames = self._frames_of(packet)
            cost_s += time.perf_counter() - started
            for frame in frames:
                seen = time.monotonic()
                yield self._wrapper.wrap(frame, arrival_ns=time.monotonic_ns(), cost_s=cost_s)
                cost_s = 0.0
            if packet is None:
                break
            if self.live and time.monotonic() - seen > NO_PICTURE_S:
                raise CameraLostError(
                    f"the camera {self.name} sends nothing that can be decoded",
                    evidence=[f"{self.damaged} damaged packets: {self._reason}"],
                    next_step="Set the camera to H.264 with a key frame every second or two.",
                )
        if self.live:
            raise CameraLostError(f"the camera {self.name} ended its stream")

    def _next_packet(self, packets: Any) -> Any | None:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            if self.live:
                raise _lost(f"the camera {self.name} stopped delivering", error) from _without_url(error)
            self.ended = f"damaged: {error.strerror}"
            return None
        if packet is None or (packet.size == 0 and packet.dts is None):
            self.ended = END_OF_FILE
            return None
        return packet

    def _frames_of(self, packet: Any | None) -> list[Any]:
        try:
            return list(self._stream.decode(packet))
        except av.FFmpegError as error:
            self.damaged += 1
            self._reason = error.strerror
            return []


def open_source(source: str, *, transport: Literal["tcp", "udp"] = "tcp", timeout_s: float = 6.0) -> Source:
    """Open a source and decode its first picture.

    Args:
        source: A file, a device under ``/dev`` or a URL.
        transport: RTSP's.
        timeout_s: Live sources: how long to wait for an answer or for data.

    Raises:
        VideoError: The file cannot be read or is no video.
        EmptyVideoError: The file holds no picture.
        CameraLostError: The device or URL does not deliver.
    """
    kind, name = kind_of(source), masked(source)
    if kind == "file":
        return _opened(_open_file(source), name, live=False)
    try:
        if kind == "device":
            container = av.open(source, format="v4l2", timeout=timeout_s, metadata_errors="replace")
        else:
            options = network_options(source, transport=transport, timeout_s=timeout_s)
            container = av.open(source, options=options, timeout=timeout_s, metadata_errors="replace")
    except av.FFmpegError as error:
        raise _lost(f"the camera {name} cannot be opened", error) from _without_url(error)
    return _opened(container, name, live=True)


def _opened(container: Any, name: str, *, live: bool) -> Source:
    try:
        return Source(container, name, live=live)
    except BaseException:
        container.close()
        raise


def _open_file(source: str) -> Any:
    path = file_path(source)
    if not path.exists():
        raise VideoError(f"there is no video {path}", next_step="Check the path.")
    if path.is_dir():
        raise VideoError(f"{path} is a directory, not a video", next_step="Give the path of one file in it.")
    if not os.access(path, os.R_OK):
        raise VideoError(f"the video {path} may not be read", next_step=f"Allow it: chmod a+r {path}")
    if path.is_file() and path.stat().st_size == 0:
        raise EmptyVideoError(f"the video {path} is an empty file", next_step="Copy it again.")
    not_video = VideoError(
        f"{path} is not a video that can be read",
        next_step="Give a video file: MP4, MKV, AVI, MPEG-TS and most others are understood.",
    )
    try:
        # The prefix keeps a colon in the name from being read as a protocol.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except av.FFmpegError as error:
        not_video.evidence = (error.strerror,)
        raise not_video from error
    if container.format.name in NOT_VIDEO:
        container.close()
        not_video.evidence = ("it is a text",)
        raise not_video
    return container


def _video_stream(container: Any, name: str) -> Any:
    """Return the stream to decode and have the demuxer drop all others."""
    chosen = container.streams.best("video")
    # A cover picture inside a song counts as video to FFmpeg.
    if chosen is None or chosen.disposition & Disposition.attached_pic:
        found = (
            ", ".join(sorted({stream.type for stream in container.streams if stream is not chosen}))
            or "nothing"
        )
        raise EmptyVideoError(
            f"{name} holds no video",
            evidence=[f"it holds: {found}"],
            next_step="Give a file or stream with pictures.",
        )
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    return chosen


def _duration_s(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


_NEXT_STEPS: tuple[tuple[type[av.FFmpegError], str], ...] = (
    (
        av.error.HTTPUnauthorizedError,
        "Correct user and password in its URL; write @ : / in them as %40 %3A %2F.",
    ),
    (av.error.ConnectionRefusedError, "Check address and port, and that its streaming is switched on."),
    (av.error.PermissionError, "Let the user read it: sudo usermod -aG video USER"),
    (av.error.FileNotFoundError, "Plug it in; ls /dev/video* shows what is there."),
    (av.error.HTTPNotFoundError, "Correct the path in its URL."),
    (av.error.ProtocolNotFoundError, "Use a URL that begins with rtsp://, http:// or the like."),
)


def _lost(what: str, error: av.FFmpegError) -> CameraLostError:
    # PyAV raises ExitError where its own time-out cut the call short.
    silent = isinstance(error, av.error.ExitError | av.error.TimeoutError)
    return CameraLostError(
        what,
        evidence=["no data within the time-out" if silent else error.strerror],
        next_step=next(
            (step for kind, step in _NEXT_STEPS if isinstance(error, kind)),
            "Check that it is on and that its stream opens in another player.",
        ),
    )


def _without_url(error: av.FFmpegError) -> OSError:
    """Return the cause of an error without the URL, whose password a traceback would show."""
    return OSError(error.errno, f"{type(error).__name__}: {error.strerror}")
