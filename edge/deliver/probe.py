"""Connects to the broker once and parts in order: what `edge check` and `edge forget` ask of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from paho.mqtt.enums import MQTTProtocolVersion

from edge.config import MqttSettings
from edge.deliver.connection import Connection, LostError, ProtocolRefusedError
from edge.deliver.topics import Topics
from edge.errors import DeliveryError


def probe(settings: MqttSettings, topics: Topics, device: str) -> str:
    """Connect as the service does, and disconnect.

    Returns:
        The version of MQTT that the broker speaks.

    Raises:
        DeliveryError: There is no connection.
    """
    with visit(settings, topics, f"check-{device}") as connection:
        return connection.protocol


@contextmanager
def visit(settings: MqttSettings, topics: Topics, name: str) -> Iterator[Connection]:
    """Connect for the length of the block.

    Name and will are the visitor's own: the running service is neither put out nor called offline.

    Raises:
        DeliveryError: There is no connection (any longer).
    """
    client_id = f"edgeclip-{name}-{os.getpid()}"
    will_topic = f"{topics.base}/check"
    try:
        try:
            connection = _connect(settings, client_id, will_topic, MQTTProtocolVersion.MQTTv5)
        except ProtocolRefusedError:
            connection = _connect(settings, client_id, will_topic, MQTTProtocolVersion.MQTTv311)
        try:
            yield connection
            connection.disconnect()
        finally:
            connection.close()
    except LostError as error:
        raise DeliveryError(
            f"the broker {settings.host}:{settings.port} cannot be used",
            evidence=[error.what],
            next_step="Start it, or correct [mqtt] in the configuration.",
        ) from error


def _connect(
    settings: MqttSettings, client_id: str, will_topic: str, protocol: MQTTProtocolVersion
) -> Connection:
    return Connection(settings, client_id=client_id, protocol=protocol, will_topic=will_topic)
