"""Draws the video inside the package, a minute of the demo world: `python -m export.demo.clip OUT`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from edge.demo.world import Scene, Stage, draw_scene, encode
from edge.records import Size

HEIGHT: Final = 240
WIDTH: Final = 320
FPS: Final = 10  # not the service's 8: a camera's clock is never the grid's
SECONDS: Final = 60
STAGE: Final[Stage] = "c"
SEED: Final = 317  # a car stands, a person brings a parcel, a bicycle flashes by
CRF: Final = 28  # as thrifty as a camera


def scene(*, seconds: float = SECONDS) -> Scene:
    """Return what the video shows; another length is another story."""
    return draw_scene(SEED, STAGE, seconds=seconds, fps=FPS, size=Size(HEIGHT, WIDTH))


def write(out: Path, *, seconds: float = SECONDS) -> Path:
    """Encode the video as H.264 in MP4.

    Args:
        out: The file.
        seconds: Length; a test needs no minute.

    Returns:
        ``out``.
    """
    return encode(scene(seconds=seconds), out, crf=CRF)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m export.demo.clip", description=__doc__)
    parser.add_argument("out", type=Path, help="the file, .mp4")
    out = write(parser.parse_args().out)
    sys.stdout.write(f"{out}: {out.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
