"""The running daemon: clips without a hole reach a subscriber, whatever process dies."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge.share import demo_bundle
from tests import needs
from tests.broker import Mosquitto, Subscriber, eventually
from tests.integration.cameras import RtspCamera, free_port
from tests.media import Shot, film, steady
from tests.service import EDGE, STAND_IN, Heard, Service, length

FRUGAL = """
[[prompt]]
name = "summary"
kind = "summary"
max_tokens = 48
[[prompt]]
name = "spatial"
kind = "spatial"
max_tokens = 48
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    needs.program("mosquitto", "mosquitto")
    needs.program("mosquitto_sub", "mosquitto-clients")
    with Mosquitto(tmp_path_factory.mktemp("broker")) as mosquitto:
        yield mosquitto


@pytest.fixture
def heard(broker: Mosquitto) -> Iterator[Callable[[], Heard]]:
    """What a subscriber has received so far in this test; the broker forgets what it retained for another."""
    with Subscriber(broker, "edgeclip/v1/d/#") as subscriber:
        yield lambda: Heard(item for item in subscriber.received if not item.retain)


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5.5 s at 8 pictures a second."""
    return film(tmp_path_factory.mktemp("film") / "reel.mp4", steady(44, fps=8))


def begun(got: Heard, total_s: float) -> bool:
    """Whether a health message has come since the clips that began add up to so much."""
    return any(health["coverage"]["total"] >= total_s for health in got.health)


def provenance(got: Heard, seconds: float) -> list[dict[str, Any]]:
    """Return where the answers about clips of a length come from."""
    return [answer["provenance"] for answer in got.answers if length(answer) == seconds]


def test_summary_and_spatial_answers_of_consecutive_clips_reach_a_subscriber(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    (tmp_path / "bundle").symlink_to(demo_bundle())
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    with Service(tmp_path, broker, sources, more=FRUGAL, command=EDGE) as service:
        eventually(lambda: len(heard().answered("spatial")) >= 3, "three clips are answered", within_s=90)
        assert service.end() == 0
    got = heard()
    got.assert_whole()
    assert [a["seq"] for a in got.answered("spatial")[:3]] == [0, 1, 2]
    assert [(length(clip), clip["status"]) for clip in got.clips()[:3]] == [(2.0, "answered")] * 3
    assert all(made["pairs"] + made["pairs_gated"] == 8 for made in provenance(got, 2.0))
    assert all(made["pairs"] < 8 for made in provenance(got, 2.0))
    assert all(0 <= answer["key_frame"]["time"] < 2 for answer in got.answered("spatial")[:3])
    assert got.availability == ["online", "offline"]
    last = got.health[-1]
    assert last["coverage"]["percent"] == 100
    assert (last["coverage"]["in_hand"], last["engine"], last["cameras"][0]["state"]) == (
        0,
        "stopped",
        "stopped",
    )
    row = service.coverage()
    assert row.answered_s + row.partial_s + row.skipped_s == pytest.approx(row.total_s)
    assert row.total_s == pytest.approx(got.seconds, abs=0.01)


def test_a_file_at_full_speed_is_answered_whole_and_the_service_ends_by_itself(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "realtime": False}}
    slow = {"STAND_IN_ANSWER_S": "0.3"}  # slower than the file is read, so the file has to wait
    with Service(tmp_path, broker, sources, more="[backlog]\nclips = 1\n", env=slow) as service:
        assert service.end(None) == 0
    got = heard()
    got.assert_whole()
    assert [(length(clip), clip["status"]) for clip in got.clips()] == [
        (2.0, "answered"),
        (2.0, "answered"),
        (1.5, "answered"),
    ]
    made = [answer["provenance"] for answer in got.answered()]
    assert [each["pairs"] + each["pairs_gated"] for each in made] == [8, 8, 6]
    assert [each["pairs_offered"] for each in made] == [8, 8, 6]
    assert got.health[-1]["cameras"][0]["state"] == "ended"
    assert service.coverage().answered_s == pytest.approx(5.5)
    last = got.health[-1]  # it stays at the broker, and everything else was sent before it
    assert (last["outbox_pending"], last["outbox_bytes"], last["engine"]) == (0, 0, "stopped")
    assert last["coverage"]["total"] == last["coverage"]["answered"] == 5.5


def test_a_looped_file_makes_whole_clips_across_its_seam(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "realtime": False, "loop": True}}
    with Service(tmp_path, broker, sources) as service:
        service.wait_for("is answered", times=6)
        assert service.end(signal.SIGINT) == 0
    got = heard()
    got.assert_whole()
    assert [length(clip) for clip in got.clips()[:6]] == [2.0] * 6
    assert all(clip["status"] == "answered" for clip in got.clips()[:6])


@pytest.mark.parametrize("command", [STAND_IN, EDGE], ids=["stand-in", "bundle"])
def test_a_clip_is_answered_although_inference_is_killed_in_the_middle_of_it(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard], command: tuple[str, ...]
) -> None:
    (tmp_path / "bundle").symlink_to(demo_bundle())
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    slow = {"STAND_IN_ANSWER_S": "0.8"}
    with Service(tmp_path, broker, sources, more=FRUGAL, command=command, env=slow) as service:
        service.wait_for("clip 0 is")  # clip 1 is in hand from here on, or in a moment
        os.kill(service.pids("inference")[-1], signal.SIGKILL)
        service.wait_for("clip 2 is")
        assert service.end() == 0
        assert len(service.pids("inference")) == 2
    got = heard()
    got.assert_whole()
    assert [clip.get("status") for clip in got.clips()[:3]] == ["answered"] * 3
    assert got.health[-1]["engine_restarts"] == 1


def test_a_clip_on_which_inference_dies_each_time_is_announced_and_the_next_one_answered(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "realtime": False}}
    with Service(tmp_path, broker, sources, env={"STAND_IN_DIES_ON": "1"}) as service:
        assert service.end(None) == 0
        assert len(service.pids("inference")) == 3  # one attempt, one more, and on
    got = heard()
    got.assert_whole()
    assert [clip.get("reason", clip.get("status")) for clip in got.clips()] == [
        "answered",
        "inference_failed",
        "answered",
    ]
    assert service.coverage().total_s == pytest.approx(5.5)


def test_a_file_loses_nothing_when_its_capture_process_is_killed(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel)}}
    with Service(tmp_path, broker, sources) as service:
        service.wait_for("clip 0 is")
        os.kill(service.pids("capture cam")[-1], signal.SIGKILL)
        assert service.end(None) == 0
        assert len(service.pids("capture cam")) == 2
    got = heard()
    got.assert_whole()
    assert [(clip["status"], clip["gaps"]) for clip in got.clips()] == [("answered", [])] * 3
    assert got.seconds == pytest.approx(5.5)
    assert got.health[-1]["cameras"][0]["restarts"] == 1


def test_a_camera_s_clip_is_partial_when_its_capture_process_is_killed_and_the_next_one_answered(
    tmp_path: Path, broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory, heard: Callable[[], Heard]
) -> None:
    shot = Shot(options=(("bf", "0"), ("g", "5"), ("tune", "zerolatency")))
    long_reel = film(tmp_path_factory.mktemp("live") / "reel.mp4", steady(400, fps=10), shot)
    with (
        RtspCamera(long_reel) as camera,
        Service(tmp_path, broker, {"cam": {"source": camera.url}}, seconds=4.0) as service,
    ):
        service.wait_for("clip 0 is")
        eventually(lambda: begun(heard(), 8.0), "clip 1 is being recorded")
        time.sleep(1.5)  # until a pair of it was decoded, judged by the gate and shown to the model
        os.kill(service.pids("capture cam")[-1], signal.SIGKILL)
        service.wait_for("clip 3 is")
        assert service.end() == 0
        assert len(service.pids("capture cam")) == 2
        assert "hunter2" not in service.log
    got = heard()
    got.assert_whole()
    killed, *after = got.clips()[1:4]
    assert killed["status"] == "partial"
    assert sum(gap["end"] - gap["start"] for gap in killed["gaps"]) < 4.0  # something of it was seen
    assert all(clip in got.answered() for clip in after)
    assert (
        after[-1]["status"] == "answered"
    )  # connecting again may have cost the one between some of its time
    assert got.health[-1]["coverage"]["percent"] == 100


def test_a_camera_that_is_not_there_is_announced_clip_by_clip(
    tmp_path: Path, broker: Mosquitto, heard: Callable[[], Heard]
) -> None:
    url = f"rtsp://admin:hunter2@127.0.0.1:{free_port()}/cam"
    with Service(tmp_path, broker, {"cam": {"source": url}}) as service:
        service.wait_for("no_video", times=2)
        assert service.end() == 0
        assert "hunter2" not in service.log
    got = heard()
    got.assert_whole()
    assert [(clip["reason"], length(clip)) for clip in got.clips()[:2]] == [("no_video", 2.0)] * 2
    assert "away" in {health["cameras"][0]["state"] for health in got.health}
    assert got.health[-1]["coverage"]["percent"] == 100


def test_a_killed_service_leaves_no_process_and_the_next_run_announces_its_clips(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    with Service(tmp_path, broker, sources) as service:
        service.wait_for("clip 1 is")
        eventually(lambda: begun(heard(), 6.0), "clip 2 is being recorded")
        children = [psutil.Process(service.pids(name)[-1]) for name in ("inference", "capture cam")]
        service.end(signal.SIGKILL)
        _, alive = psutil.wait_procs(children, 30)
        assert not alive
    with Service(tmp_path, broker, sources) as again:
        again.wait_for("clip 4 is")
        assert again.end() == 0
    got = heard()
    clips = got.clips()
    assert [clip["seq"] for clip in clips] == list(range(len(clips)))  # none is used twice, none is left out
    assert [clip["reason"] for clip in got.skipped if clip["seq"] < 4] == ["interrupted"]
    assert clips[2]["t_end"] <= clips[3]["t_start"]
    assert got.availability == ["online", "offline", "online", "offline"]  # the first is the will
    row = again.coverage()
    assert row.answered_s + row.partial_s + row.skipped_s == pytest.approx(row.total_s)


def test_a_clip_that_was_killed_between_its_two_answers_is_announced_as_partial(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    with Service(tmp_path, broker, sources, env={"STAND_IN_ANSWER_S": "1.5"}) as service:
        eventually(lambda: bool(heard().answered()), "the first of two answers")
        service.end(signal.SIGKILL)
    with Service(tmp_path, broker, sources) as again:
        again.wait_for("clip 0 is partial: interrupted")
        again.wait_for("is answered")
        assert again.end() == 0
    got = heard()
    assert got.answered("spatial") == [] or got.answered("spatial")[0]["seq"] > 0
    rest = got.clips()[0]
    assert (rest["reason"], rest["status"], rest["answered"]) == ("interrupted", "partial", ["summary"])
    assert again.coverage().partial_s >= length(rest)


def test_asked_to_stop_it_announces_what_it_can_no_longer_answer(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    with Service(tmp_path, broker, sources, env={"STAND_IN_ANSWER_S": "600"}) as service:
        eventually(lambda: begun(heard(), 4.0), "clip 1 is being recorded")
        assert service.end() == 0
    got = heard()
    got.assert_whole()
    assert {clip["reason"] for clip in got.skipped} == {"shutdown"}
    assert len(got.skipped) == len(got.clips()) >= 2
    assert got.availability == ["online", "offline"]


def test_freshness_comes_before_completeness_and_what_is_left_out_is_announced(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    slow = {"STAND_IN_ANSWER_S": "2.5"}  # two prompts: more than two clips' time
    with Service(tmp_path, broker, sources, more="[backlog]\nclips = 1\n", env=slow) as service:
        service.wait_for("skipped: backlog")
        service.wait_for("is answered")
        assert service.end() == 0
    got = heard()
    got.assert_whole()
    reasons = [clip.get("reason", clip.get("status")) for clip in got.clips()]
    assert reasons[0] == "answered"
    assert "backlog" in reasons


def test_two_cameras_are_both_served(tmp_path: Path, broker: Mosquitto, reel: Path) -> None:
    sources: dict[str, dict[str, object]] = {
        "left": {"source": str(reel)},
        "right": {"source": str(reel), "realtime": False},
    }
    with (
        Subscriber(broker, "edgeclip/v1/d/#") as subscriber,
        Service(tmp_path, broker, sources) as service,
    ):
        assert service.end(None) == 0
    for name in sources:
        got = Heard((item for item in subscriber.received if not item.retain), name)
        got.assert_whole()
        assert [(clip["status"], length(clip)) for clip in got.clips()] == [
            ("answered", 2.0),
            ("answered", 2.0),
            ("answered", 1.5),
        ]


def test_no_broker_is_no_reason_not_to_answer_and_nothing_is_lost(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "realtime": False}}
    (tmp_path / "nobody").mkdir()
    nobody = Mosquitto(tmp_path / "nobody")  # never started
    with Service(tmp_path, nobody, sources) as service:
        assert service.end(None) == 0
    assert service.coverage().answered_s == pytest.approx(5.5)
    assert heard().answers == []
    with Service(tmp_path, broker, sources) as again:
        assert again.end(None) == 0
    got = heard()
    assert [clip["seq"] for clip in got.clips()] == [0, 1, 2, 3, 4, 5]
    assert got.skipped == []


@pytest.mark.slow
def test_a_frozen_capture_process_is_replaced(
    tmp_path: Path, broker: Mosquitto, reel: Path, heard: Callable[[], Heard]
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel)}}
    with Service(tmp_path, broker, sources) as service:
        service.wait_for("clip 0 is")
        os.kill(service.pids("capture cam")[-1], signal.SIGSTOP)
        service.wait_for("it is killed")
        assert service.end(None) == 0
    got = heard()
    got.assert_whole()
    assert got.seconds == pytest.approx(5.5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_dies_whenever_every_second_is_accounted_for(
    tmp_path: Path, broker: Mosquitto, reel: Path, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = random.Random(seed)
    shot = Shot(options=(("bf", "0"), ("g", "5"), ("tune", "zerolatency")))
    long_reel = film(tmp_path_factory.mktemp("live") / "reel.mp4", steady(900, fps=10), shot)
    with (
        RtspCamera(long_reel) as camera,
        Subscriber(broker, "edgeclip/v1/d/#") as subscriber,
    ):
        sources: dict[str, dict[str, object]] = {
            "live": {"source": camera.url},
            "file": {"source": str(reel), "loop": True},
            "fast": {"source": str(reel), "loop": True, "realtime": False},
        }
        with Service(tmp_path, broker, sources, env={"STAND_IN_ANSWER_S": "0.2"}) as service:
            service.wait_for("is answered", times=3)
            for _ in range(20):
                time.sleep(rng.uniform(0.0, 2.0))
                victim = rng.choice(
                    ["inference", "inference", "capture live", "capture file", "capture fast"]
                )
                with contextlib.suppress(ProcessLookupError):
                    os.kill(service.pids(victim)[-1], signal.SIGKILL)
            service.wait_for("is answered", times=service.log.count("is answered") + 6)
            assert service.end() == 0
    for name in sources:
        got = Heard((item for item in subscriber.received if not item.retain), name)
        got.assert_whole()
        assert any(clip in got.answered() for clip in got.clips()[-5:])
    assert got.health[-1]["coverage"]["percent"] == 100
    assert got.health[-1]["coverage"]["in_hand"] == 0
