"""The broker examples work as they are shipped: a real mosquitto runs them, a device delivers, and nobody else may."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.config import MqttSettings
from edge.deliver.mqtt import Publisher
from edge.deliver.outbox import Outbox, Outgoing
from edge.deliver.topics import Topics
from tests.broker import Mosquitto, Subscriber, eventually, have_mosquitto, issue_client, make_certificates
from tests.needs import absent

EXAMPLES = Path(__file__).parents[2] / "configs" / "mosquitto"


@pytest.fixture(autouse=True)
def _needs_mosquitto() -> None:
    if not have_mosquitto():
        absent("mosquitto", "mosquitto mosquitto-clients")


@contextmanager
def running(
    directory: Path, example: str, listener: str, paths: dict[str, str] | None = None
) -> Iterator[Mosquitto]:
    """Run an example; only its listener, its paths and the user that starts it are changed."""
    broker = Mosquitto(directory)
    text = (EXAMPLES / example).read_text(encoding="utf-8")
    for old, new in {listener: f"listener {broker.port} {broker.host}", **(paths or {})}.items():
        assert old in text
        text = text.replace(old, new)
    broker.config.write_text(f"user root\n{text}", encoding="utf-8")
    with broker:
        yield broker


def deliver(settings: MqttSettings, device: str, directory: Path) -> None:
    """Deliver one answer as a device would."""
    topics = Topics("edgeclip", device)
    with Outbox(directory / f"{device}.db", max_bytes=2**20) as outbox:
        outbox.add([Outgoing("a", topics.answer("door", "summary"), b"{}", "door")])
        publisher = Publisher(settings, topics, outbox, client_id=device)
        publisher.start()
        eventually(lambda: outbox.stats().pending == 0, f"{device} delivers")
        publisher.close(5)


def test_the_loopback_example_delivers(tmp_path: Path) -> None:
    with (
        running(tmp_path / "broker", "loopback.conf", "listener 1883 127.0.0.1") as broker,
        Subscriber(broker) as subscriber,
    ):
        deliver(MqttSettings(host=broker.host, port=broker.port), "pi-5", tmp_path)
        eventually(lambda: len(subscriber.received) == 3, "online, answer, offline")


def test_the_tls_example_confines_every_device_to_its_own_branch(tmp_path: Path) -> None:
    pem = make_certificates(tmp_path / "pem")
    device, reader = issue_client(pem, "pi-5"), issue_client(pem, "homeassistant")
    acl = tmp_path / "edgeclip.acl"
    acl.write_text((EXAMPLES / "acl").read_text(encoding="utf-8"), encoding="utf-8")
    acl.chmod(0o600)
    paths = {
        "/etc/mosquitto/certs/ca.crt": str(pem.ca),
        "/etc/mosquitto/certs/server.crt": str(pem.server),
        "/etc/mosquitto/certs/server.key": str(pem.server_key),
        "/etc/mosquitto/edgeclip.acl": str(acl),
    }
    as_reader = ("--cafile", str(pem.ca), "--cert", str(reader[0]), "--key", str(reader[1]))
    as_device = ("--cafile", str(pem.ca), "--cert", str(device[0]), "--key", str(device[1]))
    with running(tmp_path / "broker", "tls.conf", "listener 8883", paths) as broker:
        settings = MqttSettings(
            host=broker.host,
            port=broker.port,
            tls=True,
            ca_file=pem.ca,
            cert_file=device[0],
            key_file=device[1],
        )
        with Subscriber(broker, "edgeclip/v1/#", extra=as_reader) as subscriber:
            deliver(settings, "pi-5", tmp_path)
            eventually(lambda: len(subscriber.received) == 3, "online, answer, offline")
            others = Topics("edgeclip", "jetson").answer("door", "summary")
            assert "Not authorized" in publish(broker, others, *as_device)
            refused = publish(broker, Topics("edgeclip", "pi-5").answer("door", "summary"), *as_reader)
            assert "Not authorized" in refused
            assert len(subscriber.received) == 3
            assert publish(broker, "edgeclip/v1/pi-5/cmd/ask", *as_reader) == ""  # but it may give commands
        own, neighbours = (Topics("edgeclip", name).discovery("homeassistant") for name in ("pi-5", "jetson"))
        with Subscriber(broker, "homeassistant/#", extra=as_device) as subscriber:
            assert "Not authorized" in publish(broker, neighbours, *as_device)
            assert publish(broker, own, *as_device) == ""
            assert "Not authorized" in publish(broker, "homeassistant/status", *as_device)
            assert publish(broker, "homeassistant/status", *as_reader) == ""
            heard = [own, "homeassistant/status"]
            eventually(
                lambda: [item.topic for item in subscriber.received] == heard, "what concerns a device"
            )
        assert (
            publish(broker, others, "--cafile", str(pem.ca)) != ""
        )  # and without a certificate nobody comes in


def publish(broker: Mosquitto, topic: str, *more: str) -> str:
    """Publish with mosquitto_pub and return what it complains about."""
    done = subprocess.run(
        [
            "mosquitto_pub",
            "-V",
            "5",
            "-h",
            broker.host,
            "-p",
            str(broker.port),
            "-t",
            topic,
            "-m",
            "x",
            "-q",
            "1",
            *more,
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr
