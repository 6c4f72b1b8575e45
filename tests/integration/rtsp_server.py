"""A camera for tests: GStreamer's RTSP server, run by the system's Python, plays an H.264 file in real time.

usage: /usr/bin/python3 rtsp_server.py FILE PORT; prints ``ready`` when it listens at rtsp://127.0.0.1:PORT/cam
"""

import sys

import gi  # type: ignore[import-not-found]  # Debian's, not the virtual environment's

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import (  # type: ignore[import-not-found]  # noqa: E402  # the versions must be chosen first
    GLib,
    Gst,
    GstRtspServer,
)


def main() -> None:
    """Serve until killed."""
    path, port = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(
        f'( filesrc location="{path}" ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )'
    )
    factory.set_shared(True)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    print("ready", flush=True)  # noqa: T201  # the protocol with the test
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
