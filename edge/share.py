"""Where the files that travel with the program lie: the example configuration, the systemd unit, the demo."""

from __future__ import annotations

from pathlib import Path

from edge.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def share(name: str) -> Path:
    """Return the path of a shipped file, such as ``configs/edge.toml``.

    A wheel carries ``configs`` and ``systemd`` under ``edge/share``; in a checkout they lie beside the package.

    Raises:
        ConfigError: The installation lacks it.
    """
    for base in (_PACKAGE / "share", _PACKAGE.parent):
        if (base / name).exists():
            return base / name
    raise ConfigError(
        f"this installation of edgeclip lacks {name}",
        evidence=[f"looked in {_PACKAGE / 'share'} and {_PACKAGE.parent}"],
        next_step="Install the package again.",
    )


def demo_bundle() -> Path:
    """Return the directory of the bundle inside the package: a small model that knows the demo world and nothing else."""
    return _PACKAGE / "demo" / "bundle"


def demo_clip() -> Path:
    """Return the video inside the package, one minute of the demo world."""
    return _PACKAGE / "demo" / "clip.mp4"
