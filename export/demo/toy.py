"""Makes the bundle inside the package: toy dimensions, random weights, the real converter. `python -m export.demo.toy OUT`.

It shows that everything works, on any machine and offline; what it says of a video means nothing, and the note in its
manifest says so wherever its words are shown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from edge.errors import EdgeError
from export.convert import convert
from export.demo import checkpoint
from export.recipes import load_recipe

NAME: Final = "edgeclip-toy"
NOTE: Final = (
    "toy dimensions and random weights: the words mean nothing, they only show that everything works"
)
RECIPE: Final = "int8"
SEED: Final = 1
DIMENSIONS: Final = replace(checkpoint.TOY, layers=4)  # every kind of layer once, and small


def make(out: Path) -> Path:
    """Write the bundle.

    Args:
        out: Its directory; must not exist.

    Raises:
        EdgeError: OUT exists, or the conversion failed.
    """
    with tempfile.TemporaryDirectory() as directory:
        source = checkpoint.write(DIMENSIONS, Path(directory) / NAME, seed=SEED)
        convert(str(source), out, load_recipe(RECIPE), note=NOTE)
    return out


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m export.demo.toy", description=__doc__)
    parser.add_argument("out", type=Path, help="the bundle's directory; must not exist")
    out = parser.parse_args().out
    try:
        make(out)
    except EdgeError as error:
        sys.stderr.write(error.render() + "\n")
        sys.exit(error.exit_code)
    size = sum(file.stat().st_size for file in out.iterdir())
    sys.stdout.write(f"{out}: {size / 2**20:.2f} MiB\n")


if __name__ == "__main__":
    main()
