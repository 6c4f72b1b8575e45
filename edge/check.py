"""What `edge check` looks at before the service does: every part for itself, so that one run names all that is wrong."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from edge.answer.text import plain
from edge.errors import CameraLostError, ConfigError, DeliveryError, EdgeError
from edge.records import Size

if TYPE_CHECKING:
    from edge.config import CameraSettings, Settings
    from edge.model.bundle import Bundle
    from edge.model.engine import Engine

# A source that opens may still need this long until a picture can be decoded; then its process is ended.
_PICTURE_S = 40.0


class Finding(BaseModel):
    """The result of one check.

    Attributes:
        name: What was looked at.
        status: ``ok``; ``warning``: the service runs, and says less or worse things; ``problem``: it cannot work.
        detail: What was found, in one line.
        evidence: Lines that show a problem.
        next_step: What to do about it.
        exit_code: Of a problem; 0 otherwise.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    status: Literal["ok", "warning", "problem"]
    detail: str
    evidence: tuple[str, ...] = ()
    next_step: str = ""
    exit_code: int = 0

    def render(self) -> str:
        """Return the lines for a person; nothing in them steers the terminal."""
        lines = [f"{self.status:<8} {plain(self.name)}: {plain(self.detail)}"]
        lines += [f"         {plain(line)}" for line in (*self.evidence, self.next_step) if line]
        return "\n".join(lines)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return the command's exit code: the highest of its findings', which is 78 for configuration and bundle."""
    return max((finding.exit_code for finding in findings), default=0)


def run_checks(path: Path) -> Iterator[Finding]:
    """Check everything that a configuration names, yielding each finding when it is known.

    Args:
        path: The configuration. When it cannot be read, that is the only finding.
    """
    from edge.config import load

    try:
        settings = load(path)
        _check_settings(settings)
    except ConfigError as error:
        yield _problem("config", error)
        return
    yield Finding(name="config", status="ok", detail=str(path))
    bundle: list[Bundle] = []
    yield _guarded("bundle", partial(_bundle, settings, bundle))
    engine: list[Engine] = []
    if bundle:
        yield _guarded("model", partial(_model, settings, bundle[0], engine))
    for camera in settings.camera:
        yield _guarded(f"camera {camera.id}", partial(_camera, settings, camera, engine))
    for opened in engine:
        opened.close()
    yield _guarded("broker", partial(_broker, settings))
    yield _clock()
    yield _guarded("disk", partial(_disk, settings))


def _guarded(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, status="ok", detail=check())
    except EdgeError as error:
        return _problem(name, error)


def _problem(name: str, error: EdgeError) -> Finding:
    return Finding(
        name=name,
        status="problem",
        detail=error.what,
        evidence=error.evidence,
        next_step=error.next_step,
        exit_code=error.exit_code,
    )


def _check_settings(settings: Settings) -> None:
    """Check what the types of the configuration cannot: topics can be built, and secrets can be read.

    Raises:
        ConfigError: A name cannot be part of a topic or is taken by the service; a file cannot be read.
    """
    from edge.deliver.topics import Topics

    mqtt = settings.mqtt
    try:
        topics = Topics(mqtt.root, settings.device.id)
        for camera in settings.camera:
            for prompt in settings.prompts:
                topics.answer(camera.id, prompt.name)
    except DeliveryError as error:
        raise ConfigError(error.what, evidence=error.evidence, next_step=error.next_step) from error
    mqtt.password()
    for key in ("ca_file", "cert_file", "key_file"):
        path = getattr(mqtt, key)
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigError(
                f"mqtt.{key} cannot be read",
                evidence=[f"{path} is missing or not readable by this user"],
                next_step=f"Copy the file there, or correct mqtt.{key}.",
            )


def _bundle(settings: Settings, found: list[Bundle]) -> str:
    from edge.config import cache_directory
    from edge.model.bundle import open_bundle

    bundle = open_bundle(settings.bundle.path, full=True, cache=cache_directory())
    found.append(bundle)
    manifest = bundle.manifest
    size = sum(entry.size for entry in manifest.files.values())
    note = f"; note: {manifest.model.note}" if manifest.model.note else ""
    return f"{manifest.model.id}, {manifest.recipe.name}, {size / 2**20:,.1f} MiB, every file as it was made{note}"


def _model(settings: Settings, bundle: Bundle, found: list[Engine]) -> str:
    from edge.config import cache_directory
    from edge.host.sensors import rss_mib
    from edge.model.engine import Engine

    found.append(Engine(bundle, threads=settings.engine.threads, cache=cache_directory()))
    return f"loaded, {rss_mib():,.0f} MiB in memory"


def _camera(settings: Settings, camera: CameraSettings, engine: list[Engine]) -> str:
    source = _open_apart(camera)
    seen = f"{source.width} x {source.height} pixels"
    if not engine:
        return seen
    # Proves that a whole clip of this camera fits the model's context.
    ticks = round(settings.clip.seconds * settings.clip.fps)
    size = engine[0].frame_size(source, ticks)
    engine[0].stream(size, ticks).close()
    return f"{seen}, shown to the model as {size.width} x {size.height}"


def _open_apart(camera: CameraSettings) -> Size:
    """Open a source in a process of its own: a call that hangs in a driver or in FFmpeg can only be ended from outside."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(
        target=_report_size, args=(theirs, camera.source, camera.transport, camera.timeout_s), daemon=True
    )
    child.start()
    theirs.close()
    try:
        if not mine.poll(3 * camera.timeout_s + _PICTURE_S):
            raise CameraLostError(
                f"camera {camera.id} did not open in time",
                next_step="Check that its stream opens in another player, and that nothing else uses the device.",
            )
        found = mine.recv()
    except EOFError as error:
        raise CameraLostError(
            f"opening camera {camera.id} crashed",
            next_step="Check that its stream opens in another player.",
        ) from error
    finally:
        child.kill()
        child.join()
        mine.close()
    if isinstance(found, EdgeError):
        raise found
    assert isinstance(found, Size)  # noqa: S101  # nothing else is sent; for the type checker
    return found


def _report_size(pipe: Pipe, source: str, transport: Literal["tcp", "udp"], timeout_s: float) -> None:
    """Open a source and send its size, or the error (the child's entry point)."""
    from edge.capture.source import open_source

    try:
        with open_source(source, transport=transport, timeout_s=timeout_s) as opened:
            pipe.send(opened.size)
    except EdgeError as error:
        pipe.send(error)


def _broker(settings: Settings) -> str:
    from edge.deliver.probe import probe
    from edge.deliver.topics import Topics

    mqtt = settings.mqtt
    protocol = probe(mqtt, Topics(mqtt.root, settings.device.id), settings.device.id)
    return f"{mqtt.host}:{mqtt.port} took the connection, {protocol}{', TLS' if mqtt.tls else ''}"


def _clock() -> Finding:
    from edge.host.sensors import clock_synced

    if clock_synced():
        return Finding(name="clock", status="ok", detail="synchronised")
    return Finding(
        name="clock",
        status="warning",
        detail="not synchronised, or that cannot be known; messages will say clock_synced: false",
        next_step="Enable time synchronisation: timedatectl set-ntp true",
    )


def _disk(settings: Settings) -> str:
    path = settings.outbox_path()
    place = path.parent
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise DeliveryError(
            f"the directory {place} of the outbox may not be written by this user",
            next_step="Run the check as the service's user, or set outbox.path.",
        )
    free_mib = shutil.disk_usage(place).free / 2**20
    # SQLite writes every page to the journal first, and rewrites the file when it shrinks.
    needed_mib = 2 * settings.outbox.max_mib
    if free_mib < needed_mib:
        raise DeliveryError(
            f"too little room for the outbox {path}",
            evidence=[f"{free_mib:,.0f} MiB free, {needed_mib} MiB may be needed"],
            next_step="Free some, or set a smaller outbox.max_mib.",
        )
    return f"{free_mib:,.0f} MiB free for the outbox {path}"
