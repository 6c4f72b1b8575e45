"""Connects to the broker once and parts in order: what `edge check` asks of it."""

from __future__ import annotations

import os

from paho.mqtt.enums import MQTTProtocolVersion

from edge.config import MqttSettings
from edge.deliver.connection import Connection, LostError, ProtocolRefusedError
from edge.deliver.topics import Topics
from edge.errors import DeliveryError


def probe(settings: MqttSettings, topics: Topics, device: str) -> str:
    """Connect as the service does, and disconnect.

    Name and will are the probe's own: the running service is neither put out nor called offline.

    Returns:
        The version of MQTT that the broker speaks.

    Raises:
        DeliveryError: There is no connection.
    """
    client_id = f"edgeclip-check-{device}-{os.getpid()}"
    will_topic = topics.availability().rpartition("/")[0] + "/check"
    try:
        try:
            return _visit(settings, client_id, will_topic, MQTTProtocolVersion.MQTTv5)
        except ProtocolRefusedError:
            return _visit(settings, client_id, will_topic, MQTTProtocolVersion.MQTTv311)
    except LostError as error:
        raise DeliveryError(
            f"the broker {settings.host}:{settings.port} cannot be used",
            evidence=[error.what],
            next_step="Start it, or correct [mqtt] in the configuration.",
        ) from error


def _visit(settings: MqttSettings, client_id: str, will_topic: str, protocol: MQTTProtocolVersion) -> str:
    connection = Connection(settings, client_id=client_id, protocol=protocol, will_topic=will_topic)
    connection.disconnect()
    connection.close()
    return connection.protocol
