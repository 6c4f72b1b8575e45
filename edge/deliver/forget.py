"""Clears what a device has left at its broker, for one that is given up or renamed: nobody goes on showing it."""

from __future__ import annotations

import time

from edge.config import Settings
from edge.deliver.connection import Connection, Parcel
from edge.deliver.probe import visit
from edge.deliver.topics import Topics
from edge.errors import DeliveryError

ACK_TIMEOUT_S = 10.0
_TURN_S = 0.2


def forget(settings: Settings, topics: Topics) -> list[str]:
    """Clear the retained messages of a device that has been stopped: Home Assistant's, then its own.

    Returns:
        The topics that are empty now.

    Raises:
        DeliveryError: There is no broker, or it does not allow it.
    """
    cleared = [
        topics.discovery(settings.homeassistant.discovery_prefix),
        *(topics.state(camera.id) for camera in settings.camera),
        *(
            topics.alert_state(camera.id, watch.id)
            for watch in settings.watch
            for camera in settings.camera
            if not watch.cameras or camera.id in watch.cameras
        ),
        topics.health(),
        topics.availability(),
    ]
    with visit(settings.mqtt, topics, f"forget-{settings.device.id}") as connection:
        refused = [line for topic in cleared for line in _clear(connection, topic)]
    if refused:
        raise DeliveryError(
            "the broker does not let this device clear everything",
            evidence=refused,
            next_step="Allow it to write there; configs/mosquitto/acl shows how.",
        )
    return cleared


def _clear(connection: Connection, topic: str) -> list[str]:
    """Empty one topic; returns what the broker has against it."""
    connection.send(Parcel(topic, b"", retain=True))
    deadline = time.monotonic() + ACK_TIMEOUT_S
    while not connection.idle:
        if time.monotonic() > deadline:
            return [f"{topic}: not acknowledged"]
        connection.turn(None, _TURN_S)
    return [f"{topic}: {receipt.refusal}" for receipt in connection.receipts() if receipt.refusal]
