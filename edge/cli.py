"""The command ``edge``: results on standard output, everything else on standard error, one clear error, an exit code.

Commands import what they need when they run, so that ``edge --help`` loads neither the video nor the model libraries.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edge.errors import EdgeError
from edge.options import (
    AsJson,
    Budget,
    BundleOption,
    Config,
    Fps,
    GateOption,
    Html,
    Image,
    KeyFrameOption,
    LanguageOption,
    Length,
    Mode,
    Scale,
    ScaleOption,
    SchemaOption,
    Start,
    Threads,
    Video,
    answer_settings,
    bundle_path,
    check_grid,
    check_writable,
    given_in,
    request_of,
)

if TYPE_CHECKING:
    from edge.answer.given import Given
    from edge.config import AnswerSettings, PromptSettings
    from edge.messages import Answer
    from edge.records import Prompt
    from edge.shell import Request

DEMO_FPS = 8.0
KEY_FRAME_TOKENS = 300
UNIT = "edgeclip.service"
_COLUMNS_MAX = 110  # longer lines are hard to read

app = typer.Typer(
    name="edge",
    help="Summarise a camera's video on this device and publish typed answers over MQTT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from edge import __version__

        typer.echo(f"edgeclip {__version__}")
        raise typer.Exit


@app.command()
def summarize(
    video: Video,
    *,
    bundle: BundleOption,
    start: Start = 0.0,
    seconds: Length = 60.0,
    fps: Fps = 8.0,
    threads: Threads = 0,
    scale: ScaleOption = Scale.EXACT,
    gate: GateOption = Mode.AUTO,
    budget: Budget = 0.0,
    key_frame: KeyFrameOption = KEY_FRAME_TOKENS,
    language: LanguageOption = "",
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Say what happens in one clip of a video, and where things are."""
    from edge.config import DEFAULT_PROMPTS

    request = request_of(
        video,
        bundle,
        start=start,
        seconds=seconds,
        fps=fps,
        threads=threads,
        scale=scale,
        gate=gate,
        budget=budget,
    )
    answers = answer_settings(key_frame, language)
    _look(request, DEFAULT_PROMPTS, answers, html=html, as_json=as_json)


@app.command()
def ask(
    video: Video,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.", show_default=False)],
    *,
    bundle: BundleOption,
    start: Start = 0.0,
    seconds: Length = 60.0,
    fps: Fps = 8.0,
    threads: Threads = 0,
    scale: ScaleOption = Scale.EXACT,
    gate: GateOption = Mode.AUTO,
    budget: Budget = 0.0,
    image: Image = None,
    schema_file: SchemaOption = None,
    key_frame: KeyFrameOption = KEY_FRAME_TOKENS,
    language: LanguageOption = "",
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Answer one question about one clip of a video."""
    from pydantic import ValidationError

    from edge.config import PromptSettings

    try:
        settings = PromptSettings(name="ask", kind="spatial" if image else "ask", text=question)
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"], param_hint="QUESTION") from error
    request = request_of(
        video,
        bundle,
        start=start,
        seconds=seconds,
        fps=fps,
        threads=threads,
        scale=scale,
        gate=gate,
        budget=budget,
    )
    answers = answer_settings(key_frame, language)
    given = None if schema_file is None else given_in(schema_file)
    if image is not None and given is not None:
        raise typer.BadParameter(
            "a picture shows places, not an object of your own", param_hint="--image, --schema"
        )
    _look(request, [settings], answers, given=given, html=html, image=image, as_json=as_json)


@app.command()
def trial(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Clips, and beside each NAME.mp4 what is true of it in NAME.toml.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ],
    *,
    bundle: BundleOption,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Prompts to be tried; without it the shipped ones.", show_default=False
        ),
    ] = None,
    threads: Threads = 0,
) -> None:
    """Score prompts on clips whose answers are known. The last line is JSON."""
    from edge.progress import progress
    from edge.shell import Request, look
    from edge.trial import Expected
    from edge.trial import trial as try_prompts

    def asked(clip: Path, expected: Expected, wanted: list[Prompt]) -> Sequence[Answer]:
        request = Request(
            clip, bundle_path(bundle), start_s=expected.start, seconds=expected.seconds, threads=threads
        )
        with progress() as watcher:
            return look(request, wanted, watcher).answers

    figures = try_prompts(folder, prompts, asked).figures()
    for name, figure in figures.items():
        typer.echo(f"{name:<8}" + ", ".join(f"{key} {value}" for key, value in figure.items()))
    typer.echo(json.dumps(figures))


@app.command()
def run(config: Config) -> None:
    """Run the service in the foreground: cameras in, answers over MQTT out; SIGTERM ends it, SIGHUP reloads CONFIG."""
    from edge.config import load

    settings = load(config)
    from edge.daemon.supervisor import run as run_daemon

    raise typer.Exit(run_daemon(settings, reread=lambda: load(config)))


@app.command()
def check(config: Config, as_json: AsJson = False) -> None:
    """Say what is wrong before the service does: configuration, bundle, cameras, broker, clock, disk."""
    from edge.check import exit_code, run_checks

    found = []
    for result in run_checks(config):
        found.append(result)
        if not as_json:
            typer.echo(result.render())
    if as_json:
        typer.echo(json.dumps([result.model_dump() for result in found], indent=2))
    raise typer.Exit(exit_code(found))


@app.command()
def status(config: Config, as_json: AsJson = False) -> None:
    """Show what became of the video so far, from the outbox; the service may run or not."""
    from edge.config import load
    from edge.status import read_status

    found = read_status(load(config))
    typer.echo(found.model_dump_json(indent=2) if as_json else found.render())


@app.command()
def forget(config: Config) -> None:
    """Clear what a device that is given up has left at the broker, and with it Home Assistant's device. Stop it first."""
    from edge.config import load
    from edge.deliver.forget import forget as forget_device
    from edge.deliver.topics import Topics

    settings = load(config)
    for topic in forget_device(settings, Topics(settings.mqtt.root, settings.device.id)):
        typer.echo(f"cleared {topic}")


@app.command()
def demo(
    seconds: Annotated[
        float,
        typer.Option(
            help="Length of each clip, 2..60; shorter ones than a minute are shown larger than the model was taught.",
            min=2.0,
            max=60.0,
        ),
    ] = 60.0,
    seed: Annotated[
        int | None,
        typer.Option(help="Render a fresh world instead of the video inside the package.", min=0),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole service once, with an embedded broker; answers to a drawn video stand beside the truth."""
    from edge.demo.run import run_demo
    from edge.progress import style_of

    check_grid(seconds, DEMO_FPS)
    raise typer.Exit(
        run_demo(
            seconds=seconds,
            as_json=as_json,
            write=typer.echo,
            width=_columns(),
            style=style_of(sys.stdout),
            seed=seed,
        )
    )


@app.command()
def bench(
    *,
    bundle: BundleOption,
    seconds: Length = 60.0,
    fps: Fps = 8.0,
    threads: Threads = 0,
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Measurements of each figure.")] = 3,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Run nothing: predict it for a Raspberry Pi 5, a Jetson and this machine."
        ),
    ] = False,
    cameras: Annotated[
        int, typer.Option(min=1, max=16, help="With --plan: cameras that share the device.")
    ] = 1,
) -> None:
    """Measure this machine with this bundle, and say what that would mean for a camera. The last line is JSON."""
    from edge.bench.measure import Workload, measure
    from edge.bench.plan import keep
    from edge.bench.report import render
    from edge.progress import progress

    check_grid(seconds, fps)
    if plan:
        _plan(bundle_path(bundle), seconds=seconds, fps=fps, threads=threads, cameras=cameras)
        return
    work = Workload(bundle_path(bundle), seconds=seconds, fps=fps, threads=threads, repeat=repeat)
    with progress() as watcher:
        report = measure(work, watcher)
    keep(report, threads=threads)
    typer.echo(render(report))
    typer.echo(report.payload().decode())


@app.command()
def schema(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="answer, skipped, dropped, state, alert, watch, health, reply, command, clip, bench or plan; all without it.",
        ),
    ] = "",
) -> None:
    """Print the JSON Schemas of what is published, of commands, and of what is printed (clip with --json, bench, plan)."""
    from edge.answer.report import report_schema
    from edge.bench.plan import plan_schema
    from edge.bench.report import bench_schema
    from edge.messages import PUBLISHED, command_schema, published_schema

    schemas = {key: published_schema(key) for key in PUBLISHED}
    schemas |= {"command": command_schema(), "clip": report_schema()}
    schemas |= {"bench": bench_schema(), "plan": plan_schema()}
    if name and name not in schemas:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(schemas)}", param_hint="NAME")
    typer.echo(json.dumps(schemas[name] if name else schemas, indent=2))


@app.command(name="config")
def config_() -> None:
    """Print an example configuration with every key."""
    _print_file("configs/edge.toml")


@app.command()
def systemd(
    name: Annotated[str, typer.Argument(metavar="FILE", help="One of the files for systemd.")] = UNIT,
) -> None:
    """Print the systemd unit, or another file that goes with it."""
    from edge.share import share

    names = sorted(path.name for path in share("systemd").iterdir() if path.is_file())
    if name not in names:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(names)}", param_hint="FILE")
    _print_file(f"systemd/{name}")


def _plan(path: Path, *, seconds: float, fps: float, threads: int, cameras: int) -> None:
    from edge.bench.plan import plan, render

    report = plan(path, seconds=seconds, fps=fps, threads=threads, cameras=cameras)
    typer.echo(render(report))
    typer.echo(report.payload().decode())


def _print_file(name: str) -> None:
    from edge.share import share

    typer.echo(share(name).read_text(encoding="utf-8"), nl=False)


def _look(
    request: Request,
    asked: Sequence[PromptSettings],
    answers: AnswerSettings,
    *,
    given: Given | None = None,
    html: Path | None = None,
    image: Path | None = None,
    as_json: bool,
) -> None:
    """Ask about one clip, print the report and write what else was wanted."""
    from edge.answer.page.view import Asked
    from edge.answer.prompts import default_text, prompt_from
    from edge.answer.text import render_report
    from edge.progress import progress, style_of
    from edge.shell import look
    from edge.show import FORMS, Album, Shown, write

    for path, option in ((html, "--html"), (image, "--image")):
        check_writable(path, option)
    if image is not None and image.suffix.lower() not in FORMS:
        raise typer.BadParameter(f"{image} ends in none of {', '.join(FORMS)}", param_hint="--image")
    album = Album(request.fps, gated=request.gate is not None)
    with progress() as watcher:
        prompts = [prompt_from(settings, answers, given) for settings in asked]
        report = look(request, prompts, watcher, on_pairs=album.see)
    if as_json:
        typer.echo(report.payload().decode())
    else:
        typer.echo(render_report(report, width=_columns(), style=style_of(sys.stdout)))
    words = tuple(Asked(item.name, item.text.strip() or default_text(item.kind)) for item in asked)
    shown = Shown(request, report, album, words, answers.language)
    if html is not None:
        write(html, shown.page())
    if image is not None:
        write(image, shown.picture(FORMS[image.suffix.lower()]))


def _columns() -> int:
    import shutil

    return min(_COLUMNS_MAX, shutil.get_terminal_size((100, 24)).columns)


def main() -> NoReturn:
    """Run the command line; the console script."""
    try:
        app()
    except EdgeError as error:
        from edge.answer.text import plain

        sys.stderr.write("\n".join(plain(line) for line in error.render().split("\n")) + "\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
