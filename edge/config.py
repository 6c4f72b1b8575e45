"""The configuration: TOML in, frozen settings out; the only reader of TOML and of the environment.

`configs/edge.toml` shows every key at its default. Unknown keys fail. Secrets are paths to files, never values.
"""

from __future__ import annotations

import os
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.errors import ConfigError
from edge.messages import QUESTION_CHARS, RESERVED_CAMERAS, RESERVED_PROMPTS, Slug

STATE_DIRECTORY = "STATE_DIRECTORY"  # set by systemd for StateDirectory=
CACHE_DIRECTORY = "CACHE_DIRECTORY"  # set by systemd for CacheDirectory=
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"  # set by systemd for LoadCredential=
WINDOW_MAX = 60  # answers that a watch looks back on


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _device_id() -> str:
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname().lower()).strip("-")
    return name[:32] or "edge"


class DeviceSettings(_Section):
    """``[device]``: who speaks."""

    id: Slug = Field(default_factory=_device_id)


class BundleSettings(_Section):
    """``[bundle]``: the model."""

    path: Path


class EngineSettings(_Section):
    """``[engine]``: how the model runs. ``threads`` 0 means one per physical core."""

    threads: Annotated[int, Field(ge=0, le=256)] = 0


class ClipSettings(_Section):
    """``[clip]``: the grid."""

    seconds: Annotated[float, Field(ge=2, le=600)] = 60.0
    fps: Annotated[float, Field(ge=0.5, le=30)] = 8.0

    @model_validator(mode="after")
    def _whole_pairs(self) -> Self:
        ticks = self.seconds * self.fps
        if abs(ticks - round(ticks)) > 1e-9 or round(ticks) % 2:
            msg = f"seconds x fps must be an even whole number of ticks, but {self.seconds} x {self.fps} = {ticks:g}"
            raise ValueError(msg)
        return self


class CameraSettings(_Section):
    """``[[camera]]``: one source.

    ``source`` is a file, a device or a URL that FFmpeg opens. ``realtime`` and ``loop`` concern files only: a file is
    played at its own pace, or as fast as the model follows; ``loop`` starts it again at its end.
    """

    id: Slug
    source: Annotated[str, Field(min_length=1)]
    transport: Literal["tcp", "udp"] = "tcp"
    timeout_s: Annotated[float, Field(ge=1, le=120)] = 6.0
    realtime: bool = True
    loop: bool = False
    scale: Literal["exact", "fast"] = "exact"


class PromptSettings(_Section):
    """``[[prompt]]``: one question that every clip is asked; an empty ``text`` takes the kind's default words."""

    name: Slug
    kind: Literal["summary", "spatial", "watch", "ask"]
    text: Annotated[str, Field(max_length=4000)] = ""
    max_tokens: Annotated[int, Field(ge=16, le=4096)] = 320

    @model_validator(mode="after")
    def _ask_needs_words(self) -> Self:
        if self.kind == "ask" and not self.text.strip():
            msg = "a prompt of kind ask needs a text"
            raise ValueError(msg)
        return self


class GateSettings(_Section):
    """``[gate]``: which pairs of frames reach the model; ``threshold`` counts only where ``mode`` is ``auto``."""

    mode: Literal["auto", "off"] = "auto"
    threshold: Annotated[float, Field(ge=0.05, le=20)] = 1.0

    @property
    def level(self) -> float | None:
        """The threshold, or None where every pair is sent."""
        return self.threshold if self.mode == "auto" else None


class WatchSettings(_Section):
    """``[[watch]]``: a question in plain words that every clip is asked, and when its answers raise an alert.

    Answers count from the last change on: ``yes`` of the last ``of`` raise it, ``no`` of the last ``of`` clear it.
    """

    id: Slug
    question: Annotated[str, Field(max_length=QUESTION_CHARS, pattern=r"\S")]
    cameras: tuple[Slug, ...] = ()
    yes: Annotated[int, Field(ge=1, le=WINDOW_MAX)] = 2
    no: Annotated[int, Field(ge=1, le=WINDOW_MAX)] = 2
    of: Annotated[int, Field(ge=1, le=WINDOW_MAX)] = 3
    hold_off_s: Annotated[float, Field(ge=0, le=7 * 86400)] = 300.0
    check: bool = True

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if max(self.yes, self.no) > self.of:
            msg = f"{max(self.yes, self.no)} of {self.of} answers can never be met"
            raise ValueError(msg)
        return self


class AnswerSettings(_Section):
    """``[answers]``: in which language, with how large a key frame, and how words are chosen."""

    language: Annotated[str, Field(pattern=r"^[A-Za-z ()-]*$", max_length=32)] = ""
    key_frame_tokens: Annotated[int, Field(ge=0, le=1024)] = 300
    sampling: Literal["greedy", "recommended"] = "greedy"


class MqttSettings(_Section):
    """``[mqtt]``: the broker. Certificates are verified whenever ``tls`` is on."""

    host: Annotated[str, Field(min_length=1)] = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    root: Annotated[str, Field(pattern=r"^[a-z0-9_-]+(/[a-z0-9_-]+)*$", max_length=64)] = "edgeclip"
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            msg = "cert_file and key_file belong together"
            raise ValueError(msg)
        if not self.tls and (self.ca_file or self.cert_file):
            msg = "ca_file and cert_file need tls = true"
            raise ValueError(msg)
        if self.password_file and not self.username:
            msg = "password_file needs a username"
            raise ValueError(msg)
        return self

    def password(self) -> str | None:
        """Read the password file; a relative path is looked up among systemd's credentials first.

        Raises:
            ConfigError: The file cannot be read.
        """
        if self.password_file is None:
            return None
        path = self.password_file
        credentials = os.environ.get(CREDENTIALS_DIRECTORY)
        if credentials and not path.is_absolute() and (Path(credentials) / path).exists():
            path = Path(credentials) / path
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the password file {path} cannot be read",
                evidence=[str(error)],
                next_step="Create it (mode 0600), or correct mqtt.password_file.",
            ) from error


class OutboxSettings(_Section):
    """``[outbox]``: what waits for the broker; when full, the oldest answers go first and are counted."""

    path: Path | None = None
    max_mib: Annotated[int, Field(ge=1, le=65536)] = 64


class BacklogSettings(_Section):
    """``[backlog]``: whole clips of each camera that may wait in memory before the oldest waiting one is skipped."""

    clips: Annotated[int, Field(ge=1, le=60)] = 2


class GovernorSettings(_Section):
    """``[governor]``: how much is done when there is little time, room or coolness.

    ``work`` is what all cameras together may take, seconds of work per second of video. ``hot_c`` 0 takes the device's
    own; ``battery_low`` is percent, ``memory_low`` a share.
    """

    enabled: bool = True
    work: Annotated[float, Field(ge=0.05, le=1)] = 0.9
    hot_c: Annotated[float, Field(ge=0, le=110)] = 0.0
    battery_low: Annotated[float, Field(ge=0, le=33)] = 20.0
    memory_low: Annotated[float, Field(ge=0, le=0.5)] = 0.1


class PowerSettings(_Section):
    """``[power]``: watts of the whole device; 0: no cap, and what its profile says it draws idle and busy."""

    cap_w: Annotated[float, Field(ge=0, le=10000)] = 0.0
    idle_w: Annotated[float, Field(ge=0, le=10000)] = 0.0
    busy_w: Annotated[float, Field(ge=0, le=10000)] = 0.0


class HealthSettings(_Section):
    """``[health]``: how often the health message goes out."""

    every_s: Annotated[float, Field(ge=1, le=3600)] = 30.0


class CommandSettings(_Section):
    """``[commands]``: what subscribers may ask of the service.

    ``per_minute`` bounds all commands together; so many may come at once. ``keep_clips`` finished clips, of different
    cameras, stay in the model's memory for `ask`, as long as all of them together take no more than ``keep_mib``.
    """

    enabled: bool = True
    per_minute: Annotated[int, Field(ge=1, le=6000)] = 30
    keep_clips: Annotated[int, Field(ge=0, le=16)] = 1
    keep_mib: Annotated[int, Field(ge=1, le=65536)] = 1024
    max_tokens: Annotated[int, Field(ge=16, le=1024)] = 160


class PrivacySettings(_Section):
    """``[privacy]``: whether a picture may ever leave the device."""

    snapshots: bool = False
    annotated: bool = False


class HomeAssistantSettings(_Section):
    """``[homeassistant]``: whether Home Assistant is told of this device.

    On by default: it is one retained message of names and topics, which nobody reads where there is no Home Assistant,
    and with it the device is found without a word of configuration.
    """

    enabled: bool = True
    discovery_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", max_length=64)] = (
        "homeassistant"
    )


DEFAULT_PROMPTS = (
    PromptSettings(name="summary", kind="summary"),
    PromptSettings(name="spatial", kind="spatial"),
)
WATCH_PROMPT = PromptSettings(name="watch", kind="watch")


class Settings(_Section):
    """All settings of one daemon."""

    device: DeviceSettings = Field(default_factory=DeviceSettings)
    bundle: BundleSettings
    engine: EngineSettings = EngineSettings()
    clip: ClipSettings = ClipSettings()
    camera: Annotated[tuple[CameraSettings, ...], Field(min_length=1, max_length=16)]
    prompt: Annotated[tuple[PromptSettings, ...], Field(min_length=1, max_length=16)] = DEFAULT_PROMPTS
    watch: Annotated[tuple[WatchSettings, ...], Field(max_length=16)] = ()
    answers: AnswerSettings = AnswerSettings()
    gate: GateSettings = GateSettings()
    mqtt: MqttSettings = MqttSettings()
    outbox: OutboxSettings = OutboxSettings()
    backlog: BacklogSettings = BacklogSettings()
    governor: GovernorSettings = GovernorSettings()
    power: PowerSettings = PowerSettings()
    health: HealthSettings = HealthSettings()
    commands: CommandSettings = CommandSettings()
    privacy: PrivacySettings = PrivacySettings()
    homeassistant: HomeAssistantSettings = HomeAssistantSettings()

    @model_validator(mode="after")
    def _names_of_their_own(self) -> Self:
        for what, names, reserved in (
            ("camera.id", [camera.id for camera in self.camera], RESERVED_CAMERAS),
            ("prompt.name", [prompt.name for prompt in self.prompts], RESERVED_PROMPTS),
            ("watch.id", [watch.id for watch in self.watch], frozenset[str]()),
        ):
            taken = sorted(reserved.intersection(names))
            if taken:
                msg = f"{what} cannot be {', '.join(taken)}: that topic is the service's own"
                raise ValueError(msg)
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                msg = f"{what} must be unique, but {', '.join(twice)} occurs twice"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _watches_are_asked(self) -> Self:
        asked = [prompt.name for prompt in self.prompt if prompt.kind == "watch"]
        if len(asked) > 1 or (asked and not self.watch):
            msg = "one prompt of kind watch asks all [[watch]] questions, and there must be some"
            raise ValueError(msg)
        cameras = {camera.id for camera in self.camera}
        unknown = sorted({name for watch in self.watch for name in watch.cameras} - cameras)
        if unknown:
            msg = f"watch.cameras names {', '.join(unknown)}, and there is no such camera"
            raise ValueError(msg)
        if len(asked) == len(self.prompt) and all(watch.cameras for watch in self.watch):
            idle = sorted(cameras.difference(*(watch.cameras for watch in self.watch)))
            if idle:
                msg = f"nothing is asked of {', '.join(idle)}: give it another prompt, or a watch"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _there_is_a_key_frame_to_publish(self) -> Self:
        if not self.privacy.annotated:
            return self
        if not self.answers.key_frame_tokens:
            msg = (
                "privacy.annotated publishes key frames, and answers.key_frame_tokens = 0 leaves none: give them "
                "tokens, or set annotated = false"
            )
            raise ValueError(msg)
        if not any(prompt.kind == "spatial" for prompt in self.prompt):
            msg = (
                "privacy.annotated publishes the key frames of spatial answers, and no prompt is of kind spatial: "
                "add one, or set annotated = false"
            )
            raise ValueError(msg)
        return self

    @property
    def prompts(self) -> tuple[PromptSettings, ...]:
        """All prompts: the configured ones, and one that asks the watches where none of these does."""
        if not self.watch or any(prompt.kind == "watch" for prompt in self.prompt):
            return self.prompt
        return (*self.prompt, WATCH_PROMPT)

    def outbox_path(self) -> Path:
        """Return the outbox's file: as configured, or ``outbox.db`` in the state directory."""
        return self.outbox.path or state_directory() / "outbox.db"


def state_directory() -> Path:
    """Return the directory for what must survive a restart: systemd's, or one under the user's home."""
    given = os.environ.get(STATE_DIRECTORY, "").split(":")[0]
    return Path(given) if given else Path.home() / ".local" / "state" / "edgeclip"


def cache_directory() -> Path:
    """Return the directory for what can be made again: systemd's, or one under the user's home."""
    given = os.environ.get(CACHE_DIRECTORY, "").split(":")[0]
    return Path(given) if given else Path.home() / ".cache" / "edgeclip"


Model = TypeVar("Model", bound=BaseModel)


def load(path: Path) -> Settings:
    """Read and check a configuration file; relative paths in it are relative to it.

    Raises:
        ConfigError: The file is missing, not TOML, or says something that is not allowed; every problem is listed.
    """
    settings = read(
        path, Settings, "configuration", "`edge config` prints every key with its unit and limits."
    )
    return _resolve(settings, path.resolve().parent)


def read(path: Path, model: type[Model], what: str, next_step: str) -> Model:
    """Read a TOML file and check it.

    Args:
        path: The file.
        model: What it must be.
        what: What it is called in errors.
        next_step: What to do where its content is wrong.

    Raises:
        ConfigError: As `load`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the {what} {path} cannot be read",
            evidence=[str(error)],
            next_step="Give the path of a TOML file; `edge config` prints one with every key.",
        ) from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"the {what} {path} is not valid TOML", evidence=[str(error)], next_step="Correct that line."
        ) from error
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(
            f"the {what} {path} is wrong",
            evidence=[_problem(item["loc"], item["msg"]) for item in error.errors()],
            next_step=next_step,
        ) from error


def _problem(location: tuple[int | str, ...], message: str) -> str:
    where = ""
    for part in location:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    if message == "Extra inputs are not permitted":
        message = "unknown key"
    return f"{where or 'file'}: {message.removeprefix('Value error, ')}"


def is_url(source: str) -> bool:
    """Whether a camera's source is a URL rather than a path."""
    return "://" in source


def _resolve(settings: Settings, base: Path) -> Settings:
    """Make paths absolute; secrets stay relative so that systemd's credentials can stand in for them."""

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else base / path

    cameras = tuple(
        camera if is_url(camera.source) else camera.model_copy(update={"source": str(base / camera.source)})
        for camera in settings.camera
    )
    mqtt = settings.mqtt
    secrets = {key: absolute(getattr(mqtt, key)) for key in ("ca_file", "cert_file", "key_file")}
    password = mqtt.password_file
    if password is not None and not os.environ.get(CREDENTIALS_DIRECTORY):
        password = absolute(password)
    return settings.model_copy(
        update={
            "bundle": settings.bundle.model_copy(update={"path": base / settings.bundle.path}),
            "camera": cameras,
            "mqtt": mqtt.model_copy(update={**secrets, "password_file": password}),
            "outbox": settings.outbox.model_copy(update={"path": absolute(settings.outbox.path)}),
        }
    )
