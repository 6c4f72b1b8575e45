"""What a source's text names: a file, a device or a URL; how FFmpeg is asked for it; how it is shown to people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

Kind = Literal["file", "device", "url"]

_USER_INFO = re.compile(r"(://)[^\s]*@")
_SECRET_KEYS = re.compile(r"(?i)\b(pass(?:word|wd)?|pwd|token|secret|auth|user(?:name)?|key)=[^&/?#\s]*")


def kind_of(source: str) -> Kind:
    """Tell what a source is; everything under /dev is a device, every URL but ``file:`` a live stream."""
    if "://" in source:
        return "file" if urlsplit(source).scheme == "file" else "url"
    return "device" if source.startswith("/dev/") else "file"


def file_path(source: str) -> Path:
    """Return the path of a source of kind ``file``."""
    return Path(unquote(urlsplit(source).path) if source.startswith("file://") else source)


def masked(source: str) -> str:
    """Return the source without user, password and the like: errors, events and logs show this.

    Unescaped ``@`` and ``/`` in passwords are common, so rather too much is hidden than too little.
    """
    return _SECRET_KEYS.sub(r"\1=***", _USER_INFO.sub(r"\1***@", source))


def network_options(source: str, *, transport: Literal["tcp", "udp"], timeout_s: float) -> dict[str, str]:
    """Return FFmpeg's options for a URL.

    PyAV's own time-out does not end every wait, so FFmpeg gets one too, in microseconds. Its name depends on the
    protocol, and RTMP's ``timeout`` would make it wait for a caller.
    """
    scheme = urlsplit(source).scheme.lower()
    limit = str(int(timeout_s * 1_000_000))
    if scheme in {"rtsp", "rtsps"}:
        return {"rtsp_transport": transport, "allowed_media_types": "video", "timeout": limit}
    if scheme.startswith("rtmp"):
        return {"rw_timeout": limit}
    return {"timeout": limit, "rw_timeout": limit}
