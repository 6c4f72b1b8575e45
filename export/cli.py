"""``edge-export``: convert a checkpoint, look into a bundle, verify it against the reference."""

from __future__ import annotations

import importlib.util
import json
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from edge.errors import ConfigError, EdgeError
from export.recipes import known_recipes, load_recipe
from export.verify import verify_command

if TYPE_CHECKING:
    from export.convert import Progress

_MIB: Final = 1 << 20
_NEEDED: Final = ("onnx", "jinja2", "huggingface_hub")  # the extra "convert"

app = typer.Typer(
    help="Make the bundles that edge runs.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@app.callback()
def _app() -> None:
    """Make the bundles that edge runs."""


@app.command("convert")
def convert_command(
    source: Annotated[
        str, typer.Argument(help="Checkpoint directory, or a hub id such as Qwen/Qwen3.5-0.8B.")
    ],
    out: Annotated[Path, typer.Argument(help="Directory of the bundle; must not exist yet.")],
    *,
    recipe: Annotated[
        str,
        typer.Option(
            help="auto: the fastest that is close enough to float32 on --clips, by measurement. Or names in the order "
            f"of your preference, such as w8a8,int4. Or one name, which is taken as it is: {', '.join(known_recipes())}, "
            "or the path of a .toml file."
        ),
    ] = "auto",
    clips: Annotated[
        Path | None,
        typer.Option(
            help="Video or folder of videos to measure on, best of your own camera; drawn ones otherwise."
        ),
    ] = None,
    max_kl: Annotated[
        float | None,
        typer.Option(
            help="How far a measured recipe may be from float32: mean KL, nats.", min=0.0, metavar="NATS"
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    note: Annotated[
        str, typer.Option(help="Shown wherever the model's words are, for example: random weights.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Convert a Qwen3.5 checkpoint to a bundle, without torch.

    One named recipe takes seconds and memory for a few matrices. Measuring takes minutes, four bytes a parameter of disk
    while it lasts, and as much memory as the bundle when it runs.
    """
    _require_extra()
    from export.calibration import clips as find_clips
    from export.choice import MAX_KL, candidates, choose
    from export.convert import convert

    begun = time.monotonic()
    measured = recipe == "auto" or "," in recipe
    if not measured and (clips is not None or max_kl is not None):
        raise ConfigError(
            "--clips and --max-kl belong to recipes that are measured",
            evidence=[f"--recipe {recipe} is taken as it is"],
            next_step=f"Leave them out, or let it be measured: --recipe {recipe},int8",
        )
    choice = None
    if measured:
        limit = MAX_KL if max_kl is None else max_kl
        made, choice = choose(
            source,
            out,
            candidates(recipe),
            find_clips(clips),
            stage=_progress,
            max_kl=limit,
            revision=revision,
            note=note,
        )
    else:
        wanted = load_recipe(recipe)
        with _progress("converting") as progress:
            made = convert(source, out, wanted, revision=revision, note=note, progress=progress)
    seconds, peak_mib = time.monotonic() - begun, _peak_mib()
    size = sum(entry.size for entry in made.bundle.manifest.files.values())
    if as_json:
        result: dict[str, Any] = {
            "bundle": str(out),
            "hash": made.bundle.hash,
            "recipe": made.bundle.manifest.recipe.name,
            "parameters": made.bundle.manifest.model.parameters,
            "size": size,
            "seconds": round(seconds, 1),
            "peak_mib": round(peak_mib, 1),
            "unexpected": list(made.unexpected),
            **({"choice": choice.dump()} if choice else {}),
        }
        _print(json.dumps(result))
        return
    if made.unexpected:
        named = ", ".join(made.unexpected[:3]) + (" ..." if len(made.unexpected) > 3 else "")
        _print(f"{len(made.unexpected)} tensors of the checkpoint are not part of the model: {named}")
    if choice:
        _print(f"{choice.table()}\n")
    _print(f"{out}: {size / _MIB:,.1f} MiB in {seconds:.1f} s, peak memory {peak_mib:,.0f} MiB")


@app.command("inspect")
def inspect_command(
    bundle: Annotated[Path, typer.Argument(help="Directory of the bundle.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; sizes in bytes.")] = False,
) -> None:
    """Show what a bundle holds: dimensions, precision, sizes, states, ids, prompt."""
    _require_extra()
    from export.inspection import inspect, render

    found = inspect(bundle)
    _print(json.dumps(found) if as_json else render(found))


app.command("verify")(verify_command)


def main() -> NoReturn:
    """Run the command line; the console script."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except EdgeError as error:
        sys.stderr.write(_printable(error.render()) + "\n")
        sys.exit(error.exit_code)
    sys.exit(0)


def _terminated(_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)  # unwinds, so that an unfinished bundle is removed


def _require_extra() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise EdgeError(
            f"converting needs {', '.join(missing)}", next_step="Install it: pip install 'edgeclip[convert]'"
        )


@contextmanager
def _progress(work: str) -> Iterator[Progress]:
    """Yield who hears of progress: a bar on a terminal, else a line every tenth, on standard error either way."""
    if not sys.stderr.isatty():
        yield _Lines(work).tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(_printable(work), total=None)
        yield lambda name, done, total: bar.update(
            task, description=_printable(f"{work}: {name}"), completed=done, total=total
        )


class _Lines:
    """Progress as lines, for logs."""

    def __init__(self, work: str) -> None:
        self._work = work
        self._tenth = 0

    def tell(self, _name: str, done: int, total: int) -> None:
        tenth = done * 10 // total
        if tenth > self._tenth:
            self._tenth = tenth
            sys.stderr.write(_printable(f"{self._work}: {tenth * 10} %\n"))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB


def _print(text: str) -> None:
    sys.stdout.write(_printable(text) + "\n")


def _printable(text: str) -> str:
    """Escape what could steer a terminal: names come from files that others made."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
