"""A broker that must not be trusted, or that does not trust us: said once, tried again, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge.config import MqttSettings
from edge.deliver.mqtt import Backoff, Connected, Disconnected, Publisher, PublisherEvent
from edge.deliver.outbox import Outbox, Outgoing
from edge.deliver.topics import Topics
from tests import needs
from tests.broker import Mosquitto, Subscriber, eventually, make_certificates, reissue_server

TOPICS = Topics("edgeclip", "dev")
ANSWERS = [Outgoing(f"a-{n}", TOPICS.answer("door", "summary"), b"{}", "door") for n in range(3)]
TRIES = 4


@dataclass(frozen=True, slots=True)
class Case:
    """A broker that does not fit, what is said of it, and how it is mended while the service runs."""

    broker: Mosquitto
    keys: dict[str, Any]  # of [mqtt]
    words: str
    mend: Callable[[], object]
    subscriber: tuple[str, ...] = field(default=())


def wrong_authority(directory: Path) -> Case:
    pem, others = make_certificates(directory / "pem"), make_certificates(directory / "others")
    return Case(
        Mosquitto(directory / "broker", certificates=pem),
        {"tls": True, "ca_file": others.ca},
        "certificate is refused: ",
        lambda: shutil.copy(pem.ca, others.ca),
        ("--cafile", str(pem.ca)),
    )


def expired(directory: Path) -> Case:
    pem = make_certificates(directory / "pem")
    reissue_server(pem, days=-1)
    return Case(
        Mosquitto(directory / "broker", certificates=pem),
        {"tls": True, "ca_file": pem.ca},
        "certificate is refused: certificate has expired",
        lambda: reissue_server(pem),
        ("--cafile", str(pem.ca)),
    )


def other_host(directory: Path) -> Case:
    pem = make_certificates(directory / "pem")
    reissue_server(pem, names="DNS:elsewhere.example")
    return Case(
        Mosquitto(directory / "broker", certificates=pem),
        {"tls": True, "ca_file": pem.ca},
        "certificate is refused: IP address mismatch, certificate is not valid for '127.0.0.1'",
        lambda: reissue_server(pem),
        ("--cafile", str(pem.ca)),
    )


def wrong_password(directory: Path) -> Case:
    secret = directory / "mqtt.pw"
    secret.write_text("wrong\n")
    return Case(
        Mosquitto(directory / "broker", users={"dev": "right"}),
        {"username": "dev", "password_file": secret},
        "refused the connection: Not authorized",
        lambda: secret.write_text("right\n"),
        ("-u", "dev", "-P", "right"),
    )


@pytest.mark.parametrize("make", [wrong_authority, expired, other_host, wrong_password])
def test_a_refusal_is_said_once_tried_again_and_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], Case]
) -> None:
    needs.program("mosquitto", "mosquitto")
    needs.program("openssl", "openssl")
    case = make(tmp_path)
    events: list[PublisherEvent] = []
    with case.broker as broker, Outbox(tmp_path / "outbox.db", max_bytes=2**20) as outbox:
        outbox.add(ANSWERS)
        publisher = Publisher(
            MqttSettings.model_validate({"host": broker.host, "port": broker.port, **case.keys}),
            TOPICS,
            outbox,
            client_id="edgeclip-dev",
            on_event=events.append,
            backoff=Backoff(0.05, 0.1),
        )
        publisher.start()
        try:
            eventually(lambda: case.words in publisher.trouble, "the refusal")
            tries = broker.log.read_text().count("New connection from")
            eventually(
                lambda: broker.log.read_text().count("New connection from") >= tries + TRIES, "more tries"
            )
            assert not publisher.connected
            assert publisher.alive
            assert [event for event in events if isinstance(event, Connected)] == []
            assert len([event for event in events if isinstance(event, Disconnected)]) == 1
            warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
            assert len(warnings) == 1
            assert case.words in warnings[0]
            assert warnings[0].endswith("; trying again")
            assert outbox.pending(9) == ANSWERS
            broker.stop()
            case.mend()
            broker.start()
            with Subscriber(broker, ANSWERS[0].topic, extra=case.subscriber):
                eventually(lambda: outbox.stats().pending == 0, "everything is delivered")
            assert publisher.trouble == ""
        finally:
            publisher.close(5)
