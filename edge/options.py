"""Options and arguments of `edge` that several commands share: their names, limits and help, and what they stand for."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import SchemaError

if TYPE_CHECKING:
    from edge.answer.given import Given
    from edge.config import AnswerSettings
    from edge.shell import Request

DEMO = "demo"


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
        help="Directory made by edge-export convert; 'demo' names the small one inside the package.",
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
SchemaOption = Annotated[
    Path | None,
    typer.Option(
        "--schema",
        metavar="FILE",
        help="A JSON Schema: the answer is an object that is valid under it.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def request_of(
    video: Path,
    bundle: str,
    *,
    start: float,
    seconds: float,
    fps: float,
    threads: int,
    scale: Scale,
    gate: Mode,
    budget: float,
) -> Request:
    """Return what the options ask to be looked at."""
    from edge.config import GateSettings
    from edge.shell import Request

    check_grid(seconds, fps)
    return Request(
        video_path(video),
        bundle_path(bundle),
        start_s=start,
        seconds=seconds,
        fps=fps,
        threads=threads,
        scale=scale.value,
        gate=GateSettings(mode=gate.value).level,
        budget=budget or None,
    )


def bundle_path(name: str) -> Path:
    """Return the directory that ``--bundle`` names."""
    from edge.share import demo_bundle

    return demo_bundle() if name == DEMO else Path(name)


def video_path(path: Path) -> Path:
    """Return the file that VIDEO names."""
    from edge.share import demo_clip

    return demo_clip() if str(path) == DEMO and not path.exists() else path


def answer_settings(key_frame: int, language: str) -> AnswerSettings:
    """Return how answers are to be made, in the configuration's own type."""
    from pydantic import ValidationError

    from edge.config import AnswerSettings

    try:
        return AnswerSettings(key_frame_tokens=key_frame, language=language)
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"], param_hint="--language") from error


def check_grid(seconds: float, fps: float) -> None:
    """Refuse lengths and rates that the configuration would refuse, in its words."""
    from pydantic import ValidationError

    from edge.config import ClipSettings

    try:
        ClipSettings(seconds=seconds, fps=fps)
    except ValidationError as error:
        first = error.errors()[0]
        message = " ".join([*map(str, first["loc"]), first["msg"].removeprefix("Value error, ")])
        raise typer.BadParameter(message, param_hint="--seconds, --fps") from error


def given_in(path: Path) -> Given:
    """Return the schema in a file, as far as it is taken."""
    from edge.answer.given import BYTES_MAX, read_schema

    try:
        with path.open("rb") as file:
            return read_schema(file.read(BYTES_MAX + 1))
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--schema") from error
    except SchemaError as error:
        raise SchemaError(
            f"{path}: {error.what}", evidence=error.evidence, next_step=error.next_step
        ) from error


def check_writable(path: Path | None, option: str) -> None:
    """Refuse a path before minutes of work, not after them."""
    if path is None:
        return
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a directory", param_hint=option)
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no directory {path.absolute().parent}", param_hint=option)
