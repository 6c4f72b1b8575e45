"""The configuration: what is accepted, what is refused and how, and that the shipped example tells the truth."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from edge.config import DEFAULT_PROMPTS, Settings, load
from edge.errors import ConfigError
from edge.messages import RESERVED_CAMERAS, RESERVED_PROMPTS

EXAMPLE = Path(__file__).parents[2] / "configs" / "edge.toml"
LEAST = '[bundle]\npath = "b"\n[[camera]]\nid = "c"\nsource = "v.mp4"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "edge.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    assert caught.value.exit_code == 78
    assert caught.value.next_step
    return caught.value


def sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the sections of the settings by their TOML name, lists of tables included."""
    found = {}
    for name, field in model.model_fields.items():
        candidates = [field.annotation, *get_args(field.annotation)]
        found[name] = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return found


def test_the_example_shows_every_key_and_no_other() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    # A key without a default that may be left out stands in a comment, as `# key = value`.
    shown = tomllib.loads(re.sub(r"(?m)^# (\w+ = |\[\[)", r"\1", text))
    assert shown.keys() == sections(Settings).keys()
    for name, section in sections(Settings).items():
        tables = shown[name] if isinstance(shown[name], list) else [shown[name]]
        for table in tables:
            assert table.keys() == section.model_fields.keys(), name


def test_the_example_shows_the_defaults() -> None:
    shown = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    for name in (
        "engine",
        "clip",
        "mqtt",
        "outbox",
        "backlog",
        "health",
        "commands",
        "privacy",
        "homeassistant",
    ):
        section = sections(Settings)[name]
        for key, value in shown[name].items():
            assert section.model_fields[key].default == value, f"{name}.{key}"
    camera = sections(Settings)["camera"].model_fields
    for key, value in shown["camera"][0].items():
        if not camera[key].is_required():
            assert camera[key].default == value, key
    assert shown["prompt"] == [prompt.model_dump() for prompt in DEFAULT_PROMPTS]


def test_the_least_that_must_be_said(tmp_path: Path) -> None:
    settings = load(write(tmp_path, LEAST))
    assert [prompt.kind for prompt in settings.prompt] == ["summary", "spatial"]
    assert (settings.clip.seconds, settings.clip.fps) == (60.0, 8.0)
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", settings.device.id)


def test_paths_are_relative_to_the_file_and_urls_are_left_alone(tmp_path: Path) -> None:
    url = "rtsp://user:secret@camera/1"
    settings = load(write(tmp_path, LEAST + f'[[camera]]\nid = "d"\nsource = "{url}"\n'))
    assert settings.bundle.path == tmp_path / "b"
    assert settings.camera[0].source == str(tmp_path / "v.mp4")
    assert settings.camera[1].source == url


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        (LEAST + "[clip]\nsecond = 60\n", "clip.second: unknown key"),
        (LEAST + "colour = 1\n", "camera[0].colour: unknown key"),
        (LEAST + "[clip]\nseconds = 2.5\nfps = 1\n", "even whole number of ticks"),
        (LEAST + "[clip]\nseconds = 1000\n", "clip.seconds:"),
        (LEAST + '[[camera]]\nid = "c"\nsource = "w.mp4"\n', "c occurs twice"),
        (LEAST + '[[prompt]]\nname = "q"\nkind = "ask"\n', "needs a text"),
        (LEAST + '[mqtt]\ncert_file = "c.pem"\n', "belong together"),
        (LEAST + '[mqtt]\nca_file = "c.pem"\n', "need tls = true"),
        (LEAST + '[mqtt]\npassword_file = "pw"\n', "needs a username"),
        (LEAST + '[mqtt]\nroot = "a/#"\n', "mqtt.root"),
        (LEAST + '[homeassistant]\ndiscovery_prefix = "ha/#"\n', "homeassistant.discovery_prefix"),
        (LEAST + "[privacy]\nannotated = true\n[answers]\nkey_frame_tokens = 0\n", "give them tokens"),
        (
            LEAST + '[privacy]\nannotated = true\n[[prompt]]\nname = "s"\nkind = "summary"\n',
            "no prompt is of kind spatial",
        ),
        ('[bundle]\npath = "b"\n', "camera: Field required"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(tmp_path: Path, text: str, evidence: str) -> None:
    error = refusal(tmp_path, text)
    assert any(evidence in line for line in error.evidence), error.evidence


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    error = refusal(tmp_path, LEAST + "[clip]\nfps = 99\n[health]\nevery_s = 0\n[nonsense]\n")
    assert len(error.evidence) == 3


@pytest.mark.parametrize("name", sorted(RESERVED_CAMERAS))
def test_a_camera_cannot_take_a_topic_of_the_service(tmp_path: Path, name: str) -> None:
    text = LEAST.replace('id = "c"', f'id = "{name}"')
    assert "the service's own" in refusal(tmp_path, text).evidence[0]


@pytest.mark.parametrize("name", sorted(RESERVED_PROMPTS))
def test_a_prompt_cannot_take_a_topic_of_the_service(tmp_path: Path, name: str) -> None:
    text = LEAST + f'[[prompt]]\nname = "{name}"\nkind = "summary"\n'
    assert "the service's own" in refusal(tmp_path, text).evidence[0]


def test_what_is_no_toml_or_not_there_is_one_clear_error(tmp_path: Path) -> None:
    assert "not valid TOML" in refusal(tmp_path, "[clip\n").what
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_the_password_is_read_without_its_line_break(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("geheim\n", encoding="utf-8")
    settings = load(write(tmp_path, LEAST + '[mqtt]\nusername = "u"\npassword_file = "pw"\n'))
    assert settings.mqtt.password() == "geheim"
    (tmp_path / "pw").unlink()
    with pytest.raises(ConfigError, match="password file"):
        settings.mqtt.password()


def test_a_credential_of_systemd_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "pw").write_text("from systemd", encoding="utf-8")
    (tmp_path / "pw").write_text("from the file", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    settings = load(write(tmp_path, LEAST + '[mqtt]\nusername = "u"\npassword_file = "pw"\n'))
    assert settings.mqtt.password() == "from systemd"


def test_state_lies_where_systemd_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(write(tmp_path, LEAST))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert settings.outbox_path() == tmp_path / "state" / "outbox.db"
    text = LEAST + '[outbox]\npath = "elsewhere.db"\n'
    assert load(write(tmp_path, text)).outbox_path() == tmp_path / "elsewhere.db"
