"""The command as its users meet it: in a process of its own, on real video and the bundle inside the package."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge.demo.subscriber import Subscriber
from edge.errors import EXIT_CONFIG, EXIT_FAILURE
from edge.share import demo_bundle, demo_clip
from export.demo import clip as drawn
from tests.broker import Mosquitto, have_mosquitto
from tests.needs import absent

BUNDLE_FILES = sorted(path.name for path in demo_bundle().iterdir())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def edge(home: Path) -> Any:
    """Run the command and return what it printed; its caches and state stay out of the user's home."""

    def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge", *map(str, args)],
            env=os.environ | {"HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn.write(tmp_path_factory.mktemp("video") / "yard.mp4", seconds=5.0)


def one_error(result: subprocess.CompletedProcess[str], code: int) -> str:
    """Check that the command failed as promised: one error, on standard error, with a next step."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) > 1
    assert all(line.startswith("  ") for line in lines[1:])
    return result.stderr


def test_summarize_prints_one_object_that_keeps_its_schema(edge: Any, video: Path) -> None:
    result = edge("summarize", video, "--bundle", "demo", "--seconds", "4", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    jsonschema.validate(report, json.loads(edge("schema", "clip").stdout))
    assert [answer["prompt"] for answer in report["answers"]] == ["summary", "spatial"]
    answer_schema = json.loads(edge("schema", "answer").stdout)
    for answer in report["answers"]:
        jsonschema.validate(answer, answer_schema)
        assert answer["status"] == "answered"
        assert answer["provenance"]["latency"]["after_end"] is None
    counts = report["counts"]
    assert (counts["frames"], counts["pairs"] + counts["pairs_gated"], counts["frames_empty"]) == (32, 16, 0)
    assert 0 < counts["pairs_gated"] < 16
    assert counts["tokens_in"] > counts["tokens_video"] > counts["pairs"] * 48
    mean = counts["tokens_video"] / counts["pairs"]
    assert counts["tokens_saved"] == pytest.approx(counts["pairs_gated"] * mean, abs=1)
    for answer in report["answers"]:
        made = answer["provenance"]
        assert (
            (made["gate"], made["pairs_gated"])
            == (report["gate"], counts["pairs_gated"])
            == (1.0, 16 - made["pairs"])
        )
    assert (report["video"]["start"], report["video"]["end"], report["video"]["seconds"]) == (0, 4, 5)
    assert "drawn world" in report["note"]
    assert report["memory"]["peak_mib"] >= report["memory"]["anonymous_mib"] > 0
    assert report["seconds"]["total"] > report["seconds"]["text"] > 0


def test_the_same_clip_has_the_same_ids_and_words(edge: Any, video: Path) -> None:
    command = ("summarize", video, "--bundle", "demo", "--seconds", "2", "--json")
    first, second = (json.loads(edge(*command).stdout)["answers"] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for key in ("id", "clip_id", "headline", "events", "objects", "confidence"):
            assert one[key] == other[key]


def test_summarize_tells_a_person_what_was_looked_at_and_what_not(edge: Any, video: Path) -> None:
    result = edge("summarize", video, "--bundle", "demo", "--start", "1", "--seconds", "2", "--gate", "off")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("note: a demonstration, trained on a drawn world")
    assert (
        f"1.0 - 3.0 s of {video}, which is 5.0 s long; not looked at: 0.0 - 1.0 s, 3.0 - 5.0 s"
        in " ".join(result.stdout.split())
    )
    assert "16 frames at 8 a second, 8 pairs" in result.stdout


def test_a_video_shorter_than_the_clip_is_looked_at_to_its_end(edge: Any, video: Path) -> None:
    report = json.loads(edge("summarize", video, "--bundle", "demo", "--start", "3.5", "--json").stdout)
    assert report["video"]["end"] == pytest.approx(5.0)
    assert (report["counts"]["frames"], report["counts"]["pairs"] + report["counts"]["pairs_gated"]) == (
        12,
        6,
    )


def test_ask_answers_under_a_schema_of_the_asker_s(edge: Any, video: Path, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {
            "people": {"type": "integer", "minimum": 0, "maximum": 20},
            "doors": {"type": "array", "items": {"enum": ["open", "closed"]}, "minItems": 1, "maxItems": 2},
        },
        "required": ["people", "doors"],
    }
    file, page = tmp_path / "schema.json", tmp_path / "page.html"
    file.write_text(json.dumps(schema), encoding="utf-8")
    asked = ("ask", video, "Who is there?", "--bundle", "demo", "--seconds", "2")
    result = edge(*asked, "--schema", file, "--html", page, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    (answer,) = json.loads(result.stdout)["answers"]
    jsonschema.Draft202012Validator(schema).validate(answer["result"])
    assert answer["kind"] == "ask"
    assert "doors[0]" in page.read_text(encoding="utf-8")
    file.write_text(json.dumps({"properties": {"a": {"$ref": "https://example.com/s"}}}), encoding="utf-8")
    assert "a: $ref" in one_error(edge(*asked, "--schema", file), EXIT_FAILURE)
    long = {"properties": {"a": {"type": "string", "minLength": 400}}, "required": ["a"]}
    file.write_text(json.dumps(long), encoding="utf-8")
    assert "longer answer" in one_error(edge(*asked, "--schema", file), EXIT_FAILURE)
    for wrong in (("--schema", tmp_path / "none.json"), ("--schema", file, "--image", tmp_path / "a.png")):
        assert edge(*asked, *wrong).returncode == 2


def test_ask_answers_one_question(edge: Any, video: Path) -> None:
    result = edge(
        "ask", video, "What moves?", "--bundle", "demo", "--seconds", "2", "--scale", "fast", "--json"
    )
    report = json.loads(result.stdout)
    (answer,) = report["answers"]
    assert (answer["kind"], answer["prompt"]) == ("ask", "ask")
    assert answer["headline"] == answer["text"][:255] != ""


def test_bench_prints_a_table_and_one_json_line_that_keeps_its_schema(edge: Any) -> None:
    result = edge("bench", "--bundle", "demo", "--repeat", "1", "--threads", "1")
    assert (result.returncode, result.stderr) == (0, "")
    *table, last = result.stdout.splitlines()
    report = json.loads(last)
    jsonschema.validate(report, json.loads(edge("schema", "bench").stdout))
    clip = report["clip"]
    assert (clip["pairs"], report["vision"]["width"], report["vision"]["height"]) == (240, 128, 96)
    assert [rate["depth"] for rate in report["prefill"]] == [0, 3813]
    assert [rate["depth"] for rate in report["decode"]] == [rate["depth"] for rate in report["prefill"]]
    assert 0 < clip["tokens"] - report["prefill"][-1]["depth"] == 512
    assert report["memory"]["peak_mib"] >= report["memory"]["anonymous_mib"] > 0
    for word in ("load", "vision", "prefill", "decode", "answer", "fork", "memory"):
        assert any(line.startswith(word) for line in table)
    assert f"{clip['per_second']:.2f} s per second of video" in "\n".join(table)


def test_a_plan_is_printed_without_running_anything(edge: Any) -> None:
    result = edge("bench", "--plan", "--bundle", "demo", "--cameras", "2")
    assert (result.returncode, result.stderr) == (0, "")
    *table, last = result.stdout.splitlines()
    report = json.loads(last)
    jsonschema.validate(report, json.loads(edge("schema", "plan").stdout))
    assert [device["device"] for device in report["devices"]][:2] == ["Raspberry Pi 5", "Jetson Orin Nano"]
    assert "Raspberry Pi 5" in "\n".join(table)


def test_a_clip_is_kept_within_a_budget_and_says_what_was_left_out(edge: Any, video: Path) -> None:
    arguments = ("summarize", video, "--bundle", "demo", "--seconds", "4", "--gate", "off")
    report = json.loads(edge(*arguments, "--budget", "0.001", "--json").stdout)  # less than loading takes
    for answer in report["answers"]:
        made = answer["provenance"]
        assert (made["rung"], made["rung_name"], made["rung_causes"]) == (6, "short answers", ["budget"])
        assert (made["pairs"], made["pairs_offered"]) == (4, 16)  # one a second
        assert made["tokens_out"] <= 160 + 64
        assert made["energy_source"] in ("measured", "estimated")
        assert answer["status"] == "answered"
    said = edge(*arguments, "--budget", "1000").stdout  # more than it can take
    assert "rung " not in said
    assert "J of the whole machine" in said


def test_bench_of_a_clip_that_does_not_fit_is_one_error(edge: Any) -> None:
    said = one_error(edge("bench", "--bundle", "demo", "--seconds", "600", "--fps", "20"), EXIT_FAILURE)
    assert "does not fit the model's context" in said


def test_progress_is_shown_on_a_terminal_and_interrupting_is_quiet(home: Path) -> None:
    mine, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge", "summarize", str(demo_clip()), "--bundle", "demo"],
        env=os.environ | {"HOME": str(home), "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    try:
        while b"looking at the clip" not in shown:
            shown += os.read(mine, 4096)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                shown += os.read(mine, 4096)
            except OSError:  # the other end is closed
                break
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(mine)
    assert process.returncode == 130
    assert output == b""
    assert b"Traceback" not in shown


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.mp4", "there is no video"),
        ("directory", "is a directory"),
        ("empty.mp4", "empty file"),
        ("text.mp4", "is not a video"),
        ("headless.mp4", "is not a video"),
    ],
)
def test_what_is_no_video_is_one_error(edge: Any, tmp_path: Path, video: Path, name: str, said: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100, encoding="ascii")
    (tmp_path / "headless.mp4").write_bytes(video.read_bytes()[2000:])
    result = edge("summarize", tmp_path / name, "--bundle", "demo")
    assert said in one_error(result, EXIT_FAILURE)


def test_a_start_behind_the_end_is_one_error(edge: Any, video: Path) -> None:
    said = one_error(edge("summarize", video, "--bundle", "demo", "--start", "90"), EXIT_FAILURE)
    assert "the clip begins at 90.0 s" in said


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_bundle_with_one_flipped_byte_is_refused(edge: Any, tmp_path: Path, video: Path, name: str) -> None:
    bundle = shutil.copytree(demo_bundle(), tmp_path / "bundle")
    content = bytearray((bundle / name).read_bytes())
    # In the manifest a digest: that its other bytes are what they were is what the bundle's hash is for.
    at = content.index(b'"sha256": "') + 20 if name == "manifest.json" else len(content) // 2
    content[at] ^= 1
    (bundle / name).write_bytes(content)
    said = one_error(edge("summarize", video, "--bundle", bundle), EXIT_CONFIG)
    assert str(bundle) in said


def test_a_bundle_of_a_newer_schema_is_refused(edge: Any, tmp_path: Path, video: Path) -> None:
    bundle = shutil.copytree(demo_bundle(), tmp_path / "bundle")
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace("edgeclip.bundle/1", "edgeclip.bundle/2"))
    assert "newer" in one_error(edge("summarize", video, "--bundle", bundle), EXIT_CONFIG)


@pytest.mark.parametrize("missing", ["whole", "manifest.json", "decoder.data"])
def test_a_bundle_that_lacks_something_is_refused(
    edge: Any, tmp_path: Path, video: Path, missing: str
) -> None:
    bundle = tmp_path / "bundle"
    if missing != "whole":
        shutil.copytree(demo_bundle(), bundle)
        (bundle / missing).unlink()
    assert str(bundle) in one_error(edge("summarize", video, "--bundle", bundle), EXIT_CONFIG)


@pytest.mark.parametrize(
    "options",
    [("--seconds", "1"), ("--seconds", "3.3"), ("--fps", "0"), ("--start", "-1"), ("--scale", "best")],
)
def test_options_out_of_range_are_usage_errors(edge: Any, video: Path, options: tuple[str, ...]) -> None:
    result = edge("summarize", video, "--bundle", "demo", *options)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_reader_that_goes_away_is_no_traceback(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge", "schema"],
        env=os.environ | {"HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert errors == b""


def test_every_schema_is_printed_by_name_and_together(edge: Any) -> None:
    schemas = json.loads(edge("schema").stdout)
    published = {"answer", "skipped", "dropped", "state", "alert", "watch", "health", "reply"}
    assert set(schemas) == published | {"command", "clip", "bench", "plan"}
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(edge("schema", "health").stdout) == schemas["health"]
    assert edge("schema", "nonsense").returncode == 2


def test_the_files_that_travel_with_the_program_are_printed_as_they_are(edge: Any) -> None:
    root = Path(__file__).parents[2]
    assert edge("config").stdout == (root / "configs" / "edge.toml").read_text(encoding="utf-8")
    assert edge("systemd").stdout == (root / "systemd" / "edgeclip.service").read_text(encoding="utf-8")
    sysusers = (root / "systemd" / "edgeclip.sysusers").read_text(encoding="utf-8")
    assert edge("systemd", "edgeclip.sysusers").stdout == sysusers
    assert edge("systemd", "../configs/edge.toml").returncode == 2


def test_help_and_version_load_no_heavy_library() -> None:
    code = """
import sys
import edge.cli
for args in (["--help"], ["summarize", "--help"], ["--version"]):
    try:
        edge.cli.app(args)
    except SystemExit as end:
        assert end.code == 0
print(sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "summarize" in result.stdout
    assert "edgeclip 0." in result.stdout
    for library in ("av", "onnxruntime", "llguidance", "tokenizers", "PIL", "numpy", "paho"):
        assert f"'{library}'" not in result.stderr


def config(directory: Path, *, port: int, extra: str = "", source: Path | None = None) -> Path:
    path = directory / "edge.toml"
    path.write_text(
        f"""
[bundle]
path = "{demo_bundle()}"
[[camera]]
id = "yard"
source = "{source or demo_clip()}"
[mqtt]
host = "127.0.0.1"
port = {port}
[outbox]
path = "outbox.db"
{extra}
""",
        encoding="utf-8",
    )
    return path


def findings(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert "Traceback" not in result.stderr
    return {finding["name"]: finding for finding in json.loads(result.stdout)}


def test_check_finds_nothing_wrong_where_nothing_is(edge: Any, tmp_path: Path) -> None:
    if not have_mosquitto():
        absent("mosquitto", "mosquitto, mosquitto-clients")
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.host, broker.port) as subscriber:
        path = config(tmp_path, port=broker.port)
        result = edge("check", path, "--json")
        lines = edge("check", path).stdout.splitlines()
        assert subscriber.received == []  # nobody is told anything, least of all that the device is offline
    found = findings(result)
    assert result.returncode == 0
    assert list(found) == ["config", "bundle", "model", "camera yard", "broker", "clock", "disk"]
    assert {name for name, finding in found.items() if finding["status"] != "ok"} <= {"clock"}
    assert found["camera yard"]["detail"] == "320 x 240 pixels, shown to the model as 128 x 96"
    assert "drawn world" in found["bundle"]["detail"]
    assert len([line for line in lines if line.startswith("ok")]) >= 6


def test_check_names_all_that_is_wrong_with_a_next_step(edge: Any, tmp_path: Path) -> None:
    result = edge("check", config(tmp_path, port=1, source=tmp_path / "gone.mp4"), "--json")
    found = findings(result)
    assert result.returncode == EXIT_FAILURE
    assert {name for name, finding in found.items() if finding["status"] == "problem"} == {
        "camera yard",
        "broker",
    }
    assert all(finding["next_step"] for finding in found.values() if finding["status"] == "problem")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("surprise = 1", "outbox.surprise: unknown key"),
        ('[[prompt]]\nname = "skipped"\nkind = "summary"', "skipped"),
        ("[clip]\nseconds = 1", "clip.seconds"),
        ('[device]\nid = "A B"', "device.id"),
    ],
)
def test_check_refuses_a_wrong_configuration(edge: Any, tmp_path: Path, extra: str, said: str) -> None:
    result = edge("check", config(tmp_path, port=1, extra=extra))
    assert result.returncode == EXIT_CONFIG
    assert result.stdout.startswith("problem  config: ")
    assert said in result.stdout


def test_check_refuses_secrets_that_cannot_be_read(edge: Any, tmp_path: Path) -> None:
    path = config(tmp_path, port=1)
    text = path.read_text()
    for keys in ('username = "pi"\npassword_file = "gone"', 'tls = true\nca_file = "gone"'):
        path.write_text(text.replace("[mqtt]\n", f"[mqtt]\n{keys}\n"))
        result = edge("check", path)
        assert result.returncode == EXIT_CONFIG
        assert "gone" in result.stdout


def test_forget_says_what_it_cleared_and_who_does_not_let_it(edge: Any, tmp_path: Path) -> None:
    if not have_mosquitto():
        absent("mosquitto", "mosquitto, mosquitto-clients")
    with Mosquitto(tmp_path / "broker") as broker:
        path = config(tmp_path, port=broker.port, extra='[device]\nid = "pi"')
        said = edge("forget", path)
        assert said.returncode == 0
        assert said.stdout.splitlines() == [
            "cleared homeassistant/device/edgeclip/pi/config",
            "cleared edgeclip/v1/pi/yard/state",
            "cleared edgeclip/v1/pi/health",
            "cleared edgeclip/v1/pi/availability",
        ]
    assert "the broker 127.0.0.1" in one_error(edge("forget", path), EXIT_FAILURE)
    (tmp_path / "mqtt.pw").write_text("right")
    acl = "user pi\ntopic write edgeclip/v1/pi/#\n"
    with Mosquitto(tmp_path / "strict", users={"pi": "right"}, acl=acl) as strict:
        login = f'port = {strict.port}\nusername = "pi"\npassword_file = "mqtt.pw"'
        path = config(tmp_path, port=strict.port)
        path.write_text(path.read_text().replace(f"port = {strict.port}", login) + '[device]\nid = "pi"\n')
        refusal = one_error(edge("forget", path), EXIT_FAILURE)
    assert "homeassistant/device/edgeclip/pi/config: Not authorized" in refusal
    assert "/health" not in refusal


@pytest.mark.parametrize("command", ["run", "status", "forget"])
def test_other_commands_refuse_a_wrong_configuration_too(edge: Any, tmp_path: Path, command: str) -> None:
    said = one_error(edge(command, config(tmp_path, port=1, extra="surprise = 1")), EXIT_CONFIG)
    assert "outbox.surprise: unknown key" in said
    one_error(edge(command, tmp_path / "none.toml"), EXIT_CONFIG)


def test_check_tells_a_damaged_bundle_by_its_exit_code(edge: Any, tmp_path: Path) -> None:
    bundle = shutil.copytree(demo_bundle(), tmp_path / "bundle")
    graph = bundle / "decoder.onnx"
    content = bytearray(graph.read_bytes())
    content[100] ^= 255
    graph.write_bytes(content)
    path = config(tmp_path, port=1)
    path.write_text(path.read_text().replace(str(demo_bundle()), str(bundle)))
    result = edge("check", path, "--json")
    assert result.returncode == EXIT_CONFIG
    assert findings(result)["bundle"]["status"] == "problem"


def test_status_without_an_outbox_says_so(edge: Any, tmp_path: Path) -> None:
    assert "no outbox" in one_error(edge("status", config(tmp_path, port=1)), EXIT_FAILURE)
