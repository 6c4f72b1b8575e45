"""Cameras for tests: a real RTSP server that can be killed, and servers that misbehave."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from PIL import Image

from tests import needs
from tests.media import BITS, stamped

SYSTEM_PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).with_name("rtsp_server.py")
PACKAGES = "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=control:*\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"
)


def free_port() -> int:
    """Return a port on loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RtspCamera:
    """GStreamer's RTSP server playing a file in real time, from its beginning for the first viewer."""

    def __init__(self, film: Path) -> None:
        known = "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0'); "
        known += "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
        known += "assert all(map(Gst.ElementFactory.find, ('qtdemux', 'h264parse', 'rtph264pay')))"
        if subprocess.run([SYSTEM_PYTHON, "-c", known], capture_output=True, check=False).returncode:
            needs.absent("GStreamer's RTSP server", PACKAGES)
        self._film = film
        self._port = free_port()
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://admin:hunter2@127.0.0.1:{self._port}/cam"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server and wait until it listens."""
        command = [SYSTEM_PYTHON, str(SCRIPT), str(self._film), str(self._port)]
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"

    def freeze(self) -> None:
        """Let it send nothing more and keep its connections."""
        if self._server is not None:
            self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._server is not None:
            self._server.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Cut its power."""
        if self._server is not None:
            self._server.kill()
            self._server.communicate()
            self._server = None


@contextmanager
def silent_camera(*, speaks: bool) -> Iterator[str]:
    """A server that accepts and, if it speaks RTSP at all, answers up to PLAY; then it sends nothing.

    Yields its URL. Connections are cut at the end, which frees whoever still waits.
    """
    connections: list[socket.socket] = []

    def answer(connection: socket.socket) -> None:
        received = b""
        while data := _receive(connection):
            received += data
            while b"\r\n\r\n" in received:
                request, received = received.split(b"\r\n\r\n", 1)
                if speaks:
                    with suppress(OSError):  # it may be cut between the request and the reply
                        connection.sendall(_reply(request.decode()))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"rtsp://admin:hunter2@127.0.0.1:{listener.getsockname()[1]}/cam"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


@contextmanager
def mjpeg_camera(*, fps: float) -> Iterator[str]:
    """A web camera: stamped JPEGs over HTTP, which carry no times. Yields its URL."""

    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            self.end_headers()
            began = time.monotonic()
            for number in range(1 << BITS):
                jpeg = io.BytesIO()
                Image.fromarray(stamped(number)).save(jpeg, "JPEG")
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {jpeg.tell()}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + jpeg.getvalue() + b"\r\n")
                except OSError:
                    return
                time.sleep(max(0.0, began + (number + 1) / fps - time.monotonic()))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/video"
        server.shutdown()
        thread.join()


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except OSError:
        return b""


def _reply(request: str) -> bytes:
    verb = request.split(" ", 1)[0]
    number = next(
        line.split(":")[1].strip() for line in request.splitlines() if line.lower().startswith("cseq")
    )
    extra, body = "", ""
    if verb == "OPTIONS":
        extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
    elif verb == "DESCRIBE":
        body = SDP
        extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
    elif verb == "SETUP":
        extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
    elif verb == "PLAY":
        extra = "Session: 1\r\n"
    return f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{extra}\r\n{body}".encode()
