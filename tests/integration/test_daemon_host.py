"""The running daemon and who started it: a service manager, a terminal, a shell that waits for its exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.broker import Mosquitto, Subscriber, eventually
from tests.media import film, steady
from tests.service import EDGE, STAND_IN, Service


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    needs.program("mosquitto", "mosquitto")
    needs.program("mosquitto_sub", "mosquitto-clients")
    with Mosquitto(tmp_path_factory.mktemp("broker")) as mosquitto:
        yield mosquitto


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5.5 s at 8 pictures a second."""
    return film(tmp_path_factory.mktemp("film") / "reel.mp4", steady(44, fps=8))


def test_the_service_manager_is_told_ready_alive_stopping_and_how_it_goes(
    tmp_path: Path, broker: Mosquitto, reel: Path
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "realtime": False}}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        with Service(tmp_path, broker, sources, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as service:
            told = [manager.recv(4096).decode()]
            while told[-1] != "STOPPING=1":
                told.append(manager.recv(4096).decode())
            assert service.end(None) == 0
    assert told.count("READY=1") == 1
    assert "WATCHDOG=1" in told
    assert any(line.startswith("STATUS=coverage 100 %") for line in told)


def test_sighup_reads_the_configuration_again_and_a_wrong_file_changes_nothing(
    tmp_path: Path, broker: Mosquitto, reel: Path
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    config = tmp_path / "edge.toml"
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        Subscriber(broker, "edgeclip/v1/d/cam/count") as subscriber,
    ):
        manager.bind(env["NOTIFY_SOCKET"])
        manager.settimeout(30)
        told: list[str] = []

        def ready(times: int) -> None:
            while told.count("READY=1") < times:
                told.append(manager.recv(4096).decode().split("\n")[0])

        with Service(tmp_path, broker, sources, env=env) as service:
            ready(1)
            good = config.read_text(encoding="utf-8")
            config.write_text(good + "[nonsense]\n", encoding="utf-8")
            service.hit(signal.SIGHUP)
            ready(2)
            service.wait_for("is not taken over, and nothing was changed")
            count = '[[prompt]]\nname = "count"\nkind = "ask"\ntext = "How many?"\n'
            config.write_text(good.replace("seconds = 2.0", "seconds = 4.0") + count, encoding="utf-8")
            service.hit(signal.SIGHUP)
            ready(3)
            service.wait_for("applied: prompt")
            service.wait_for("hold after a restart: clip")
            eventually(lambda: bool(subscriber.received), "the new prompt is asked")
            assert service.end() == 0
    words = [word for word in told if word in ("READY=1", "RELOADING=1")]
    assert words == ["READY=1", *["RELOADING=1", "READY=1"] * 2]


def test_a_closed_terminal_ends_a_service_that_was_started_from_it(
    tmp_path: Path, broker: Mosquitto, reel: Path
) -> None:
    sources: dict[str, dict[str, object]] = {"cam": {"source": str(reel), "loop": True}}
    Service(tmp_path, broker, sources)  # writes its configuration
    ours, theirs = os.openpty()
    command = [*STAND_IN, str(tmp_path / "edge.toml")]
    env = {**os.environ, "CACHE_DIRECTORY": str(tmp_path / "cache")}
    with subprocess.Popen(command, stderr=theirs, env=env) as service:
        try:
            os.close(theirs)
            said = b""
            while b"is loaded" not in said:
                said += os.read(ours, 4096)
            service.send_signal(signal.SIGHUP)
            with contextlib.suppress(OSError):  # EIO: nobody holds the other end any more
                while os.read(ours, 4096):
                    pass
            assert service.wait(30) == 0
        finally:
            service.kill()
            os.close(ours)


@pytest.mark.slow
def test_a_file_that_kills_every_process_before_it_opens_ends_the_service(
    tmp_path: Path, broker: Mosquitto, reel: Path
) -> None:
    with Service(tmp_path, broker, {"cam": {"source": str(reel)}}) as service:
        for times in range(1, 6):
            service.wait_for("capture cam: process", times=times)
            os.kill(service.pids("capture cam")[-1], signal.SIGKILL)
        assert service.end(None) == 1
    assert "ends every process that reads it" in service.log


@pytest.mark.parametrize(
    ("source", "content", "words"),
    [
        ("missing.mp4", None, "there is no video file"),
        ("broken.mp4", b"this is not a video", "broken.mp4"),
    ],
)
def test_a_file_that_can_never_work_is_one_clear_error(
    tmp_path: Path, broker: Mosquitto, source: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / source).write_bytes(content)
    with Service(tmp_path, broker, {"cam": {"source": source}}) as service:
        assert service.end(None) == 1
    assert words in service.log
    assert service.log.count("error: ") == 1
    assert "Traceback" not in service.log


def test_a_missing_bundle_ends_the_service_so_that_it_is_not_started_again(
    tmp_path: Path, broker: Mosquitto, reel: Path
) -> None:
    with Service(tmp_path, broker, {"cam": {"source": str(reel)}}, command=EDGE) as service:
        assert service.end(None) == 78
    assert "there is no bundle" in service.log
    assert "Traceback" not in service.log
