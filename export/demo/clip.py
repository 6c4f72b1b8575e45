"""Draws the video inside the package, a minute of the demo world: `python -m export.demo.clip OUT`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge.demo.video import CRF, SECONDS, packaged
from edge.demo.world import encode


def write(out: Path, *, seconds: float = SECONDS) -> Path:
    """Encode the video as H.264 in MP4.

    Args:
        out: The file.
        seconds: Length; a test needs no minute.

    Returns:
        ``out``.
    """
    return encode(packaged(seconds=seconds), out, crf=CRF)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m export.demo.clip", description=__doc__)
    parser.add_argument("out", type=Path, help="the file, .mp4")
    out = write(parser.parse_args().out)
    sys.stdout.write(f"{out}: {out.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
