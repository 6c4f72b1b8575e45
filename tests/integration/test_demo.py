"""`edge demo`: broker, daemon and subscriber, on what the package holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import psutil
import pytest

from edge.demo import video
from edge.demo.world import truth
from edge.messages import published_schema
from export.demo.scores import Said, events


def run(home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        env=os.environ | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, object]]:
    """What the subscriber of one demo of three clips received, in order."""
    result = run(tmp_path_factory.mktemp("home"), "-m", "edge", "demo", "--seconds", "20", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return [(line["topic"], line["payload"]) for line in lines]


def test_a_subscriber_receives_two_valid_answers_for_each_of_three_clips(
    received: list[tuple[str, object]],
) -> None:
    validator = jsonschema.Draft202012Validator(published_schema("answer"))
    for name in ("summary", "spatial"):
        answers = [payload for topic, payload in received if topic == f"edgeclip/v1/demo/yard/{name}"]
        assert len(answers) == 3
        for seq, answer in enumerate(answers):
            validator.validate(answer)
            assert isinstance(answer, dict)
            assert (answer["seq"], answer["status"]) == (seq, "answered")
            assert answer["provenance"]["pairs_offered"] == 80
            assert 0 < answer["provenance"]["pairs"] < 40
        ends, starts = [a["t_end"] for a in answers], [a["t_start"] for a in answers]  # type: ignore[index]
        assert ends[:-1] == starts[1:]  # the clips touch


def test_every_second_is_accounted_for(received: list[tuple[str, object]]) -> None:
    health = [payload for topic, payload in received if topic == "edgeclip/v1/demo/health"]
    jsonschema.validate(health[-1], published_schema("health"))
    assert isinstance(health[-1], dict)
    coverage = health[-1]["coverage"]
    assert coverage["total"] == coverage["answered"] == 60
    assert coverage["percent"] == 100
    assert "drawn world" in health[-1]["note"]


def test_the_device_comes_online_and_goes_offline(received: list[tuple[str, object]]) -> None:
    states = [payload for topic, payload in received if topic == "edgeclip/v1/demo/availability"]
    assert (states[0], states[-1]) == ("online", "offline")


def test_what_it_tells_is_true(tmp_path: Path) -> None:
    """With its defaults: a minute at a time, behind the gate."""
    result = run(tmp_path, "-m", "edge", "demo", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    said = {line["topic"].rpartition("/")[2]: line["payload"] for line in lines}
    scene = truth(video.packaged())
    told = [Said(each["what"], each["start"], each["end"]) for each in said["summary"]["events"]]
    happened = [Said(each.what, each.start_s, each.end_s) for each in scene.events]
    right, out_of = events(happened, told)["event_f1"]
    assert out_of >= 10
    assert right / out_of >= 0.8
    named = {each["label"] for each in said["spatial"]["objects"]}
    tick = round(said["spatial"]["key_frame"]["time"] * scene.scene.fps)
    assert named == {each.label for each in scene.sights(tick)}


def test_a_person_reads_the_answers_and_a_warning_and_nothing_stays_behind(tmp_path: Path) -> None:
    result = run(tmp_path, "-m", "edge", "demo", "--seconds", "30")
    assert (result.returncode, result.stderr) == (0, "")
    assert "note: a demonstration, trained on a drawn world" in result.stdout
    assert result.stdout.count("edgeclip/v1/demo/yard/summary: clip") == 2
    assert "100 % of the video is accounted for: 60 s answered" in result.stdout
    happened = truth(video.packaged()).events
    for event in happened:  # beside the answers, in the clip's own time
        since = event.start_s - (30 if event.start_s >= 30 else 0)
        assert f"truth: {since:.1f} to " in result.stdout
        assert event.what in result.stdout
    assert "edge summarize demo --bundle demo --html demo.html" in result.stdout
    assert "\x1b" not in result.stdout
    left = [process for process in psutil.process_iter(["cmdline"]) if _ours(process.info["cmdline"])]
    assert left == []


def _ours(command: list[str] | None) -> bool:
    return any("edgeclip-demo-" in part for part in command or [])


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['amqtt'] = None; sys.argv[1:] = ['demo']; import edge.cli; edge.cli.main()"
    )
    result = run(tmp_path, "-c", code)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "error: the embedded broker is not installed",
        '  Install it: pip install "edgeclip[demo]"',
    ]
