"""`edge-export verify`: the bundle beside its reference, or beside a golden vector, as a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.errors import CheckpointError, EdgeError, ModelError

if TYPE_CHECKING:
    from edge.model.manifest import Manifest
    from export.comparison import Progress


class Precision(StrEnum):
    """Of the reference."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def verify_command(
    bundle: Annotated[Path, typer.Argument(help="Directory of the bundle.")],
    *,
    source: Annotated[
        str | None,
        typer.Option(help="What it was converted from: a directory or a hub id.", metavar="SOURCE"),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Of a hub id; the revision that the bundle names where it is left out.")
    ] = None,
    frames: Annotated[
        int, typer.Option(help="Frames of the longest clip, and of --video.", min=2, max=480)
    ] = 8,
    video: Annotated[
        Path | None, typer.Option(help="Show the first frames of this video too, at 8 a second.")
    ] = None,
    dtype: Annotated[
        Precision, typer.Option(help="Of the reference; bfloat16 halves its memory and blurs the comparison.")
    ] = Precision.FLOAT32,
    max_kl: Annotated[
        float | None,
        typer.Option(help="Fail when the mean KL exceeds this, in nats.", min=0.0, metavar="NATS"),
    ] = None,
    golden: Annotated[
        Path | None,
        typer.Option(help="Replay this golden vector instead of the reference.", metavar="FILE.json"),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="The golden vector's picture.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Compare BUNDLE with the checkpoint it came from, or with a golden vector."""
    from edge.model.bundle import open_bundle
    from export import golden as vectors
    from export import parity
    from export.comparison import expect, is_exact, measure, replay, scenes
    from export.footage import read_image

    if golden is not None and image is not None and source is None:
        opened = open_bundle(bundle, full=True)
        vector, rgb = vectors.read_golden(golden), read_image(image)
        with _progress() as progress:
            judged, device = replay(opened, vector, rgb, progress)
        faults = vectors.failures(judged, exact=is_exact(opened.manifest), max_kl=max_kl)
        shown = vectors.table(judged, device)
        _finish(vectors.dump(judged, device, faults), shown, faults, as_json=as_json)
        return
    if source is None or golden is not None or image is not None:
        raise EdgeError(
            "verify compares with one thing at a time",
            evidence=["it needs either --source, or --golden and --image together"],
            next_step="Name what the bundle was converted from: edge-export verify BUNDLE --source SOURCE",
        )
    opened = open_bundle(bundle, full=True)
    directory = _matching_source(opened.manifest, source, revision)
    cases = scenes(frames, video)
    with _progress() as progress:
        expected = expect(directory, opened.manifest, cases, dtype=dtype.value, progress=progress)
        report = measure(opened, expected, progress=progress)
    faults = parity.failures(report, exact=is_exact(opened.manifest), max_kl=max_kl)
    dumped = report.dump(faults)
    _store(bundle / parity.REPORT, dumped)
    _finish(dumped, report.table(), faults, as_json=as_json)


def _matching_source(manifest: Manifest, source: str, revision: str | None) -> Path:
    """Find the source and refuse another model's before gigabytes of it are loaded."""
    from export.checkpoint.source import open_checkpoint

    if revision is None and not Path(source).expanduser().is_dir() and source == manifest.model.id:
        revision = manifest.model.revision
    checkpoint = open_checkpoint(source, revision)
    said = (manifest.model.parameters, manifest.text.hidden, manifest.tokens.vocab_rows)
    found = (checkpoint.parameters, checkpoint.dims.text.hidden, checkpoint.dims.text.vocab_rows)
    if said != found:
        raise CheckpointError(
            f"{source} is not what the bundle was converted from",
            evidence=[
                f"the bundle holds {manifest.model.id}: {said[0]} parameters, width {said[1]}, {said[2]} rows",
                f"{source}: {found[0]} parameters, width {found[1]}, {found[2]} rows",
            ],
            next_step=f"Give {manifest.model.id} as --source, or convert this checkpoint.",
        )
    return checkpoint.directory


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show the step at hand on standard error: in place on a terminal, else a line each."""
    if not sys.stderr.isatty():
        yield _line
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("verify") as status:
        yield lambda step: status.update(Text(step))


def _line(step: str) -> None:
    sys.stderr.write(f"verify: {step}\n")


def _store(path: Path, data: dict[str, Any]) -> None:
    """Put the report beside the manifest; a bundle that cannot be written to keeps its old one."""
    from export import parity

    aside = path.with_name(f".{path.name}.new")
    try:
        aside.write_text(parity.strict_json(data, indent=1) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        sys.stderr.write(f"note: {path} was not written: {error}\n")


def _finish(data: dict[str, Any], table: str, faults: list[str], *, as_json: bool) -> None:
    from export import parity

    sys.stdout.write((parity.strict_json(data) if as_json else table) + "\n")
    sys.stdout.flush()
    if faults:
        raise ModelError(
            "the bundle is not what it was compared with",
            evidence=faults,
            next_step="Convert it again; if this stays, take a recipe of higher precision, or report it.",
        )
