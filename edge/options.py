"""Options and arguments that several commands of `edge` share: their names, limits and the words that explain them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Scale(StrEnum):
    """How pictures reach the model's size."""

    EXACT = "exact"
    FAST = "fast"


class Mode(StrEnum):
    """Whether pairs in which nothing new happens are dropped."""

    AUTO = "auto"
    OFF = "off"


Video = Annotated[
    Path,
    typer.Argument(
        metavar="VIDEO", help="The video file; 'demo' names the one inside the package.", show_default=False
    ),
]
Config = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The configuration, TOML.", show_default=False)
]
BundleOption = Annotated[
    str,
    typer.Option(
        "--bundle",
        metavar="DIR",
        help="Directory made by edge-export convert; 'demo' names the toy bundle inside the package.",
        show_default=False,
    ),
]
Start = Annotated[float, typer.Option("--start", min=0.0, help="Where the clip begins, seconds.")]
Length = Annotated[float, typer.Option("--seconds", help="Length of the clip, 2..600.")]
Fps = Annotated[float, typer.Option("--fps", help="Frames per second; seconds x fps must be even.")]
Threads = Annotated[int, typer.Option(min=0, max=256, help="Threads of the model; 0: one per physical core.")]
ScaleOption = Annotated[
    Scale, typer.Option(help="exact: as the model was trained; fast: cheaper, slightly other pixels.")
]
GateOption = Annotated[
    Mode,
    typer.Option(
        "--gate",
        help="auto: pairs of frames in which nothing new happens are dropped; off: the model sees them all.",
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Also write a page to look at: pictures, events, boxes; one file, opens offline.",
        show_default=False,
    ),
]
Budget = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="Seconds of work per second of video: do less to stay below it, and say how much less. 0: do everything.",
    ),
]
KeyFrameOption = Annotated[
    int,
    typer.Option(
        "--key-frame",
        metavar="TOKENS",
        min=0,
        max=1024,
        help="Size of the sharp still that is shown where places are asked for; 0: none.",
    ),
]
LanguageOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="Language of the answers, in English: German.", show_default=False),
]
Image = Annotated[
    Path | None,
    typer.Option(
        "--image",
        metavar="FILE",
        help="Ask for places, and write the picture with their boxes: .png or .jpg.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
