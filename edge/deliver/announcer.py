"""Keeps Home Assistant's picture of this device right: announced, announced again when asked, and cleared away.

The broker's own retained message is the memory of what was announced before. It is read on every connect, before the new
one replaces it: entities that are gone (a camera taken out of the configuration) are removed by name, for Home Assistant
keeps what a message merely leaves out; and where discovery is switched off, the message is taken back.
"""

from __future__ import annotations

import logging
import random
import time

from edge.config import Settings
from edge.deliver import homeassistant
from edge.deliver.commands import Incoming
from edge.deliver.mqtt import Publisher
from edge.deliver.topics import Topics

BIRTH_DELAY_S = (0.5, 3.0)  # a fleet must not answer a starting Home Assistant all at once

_LOG = logging.getLogger(__name__)


class Announcer:
    """Announces one device through a publisher that has not been started.

    Args:
        settings: The configuration.
        topics: Of the device.
        publisher: Carries the message, and what Home Assistant says.
    """

    def __init__(self, settings: Settings, topics: Topics, publisher: Publisher) -> None:
        self._settings = settings
        self._topics = topics
        self._publisher = publisher
        self._keys = homeassistant.keys(settings, topics)
        self._due_s: float | None = None  # when everything is to be published again
        prefix = settings.homeassistant.discovery_prefix
        self._topic = topics.discovery(prefix)
        if settings.homeassistant.enabled:
            publisher.retained(self._topic, homeassistant.discovery(settings, topics))
            publisher.subscribe(self._topic, self._hear_earlier, kept=True)
            publisher.subscribe(homeassistant.status_topic(prefix), self._hear_status, kept=True)
        else:
            publisher.subscribe(self._topic, self._take_back, kept=True)

    def tick(self) -> None:
        """Publish everything again when it is time; called every second or so."""
        if self._due_s is not None and time.monotonic() >= self._due_s:
            self._due_s = None
            self._publisher.republish()

    def reconfigure(self, settings: Settings) -> None:
        """Announce what other prompts have to show, and remove what they no longer have."""
        if self._settings.homeassistant.enabled:
            before = homeassistant.discovery(self._settings, self._topics)
            self._keys = homeassistant.keys(settings, self._topics)
            leftovers = homeassistant.find_leftovers(before, self._keys)
            self._publisher.retained(self._topic, homeassistant.discovery(settings, self._topics, leftovers))
        self._settings = settings

    # --- In the publisher's thread -----------------------------------------------------------------------------------

    def _hear_status(self, message: Incoming) -> None:
        # A birth that was retained is old; and one that is answered soon needs no second answer.
        if message.payload == homeassistant.STATUS_ONLINE and not message.retain and self._due_s is None:
            _LOG.info("Home Assistant has started: everything is published again")
            self._due_s = time.monotonic() + random.uniform(*BIRTH_DELAY_S)  # noqa: S311 - spreads a fleet

    def _hear_earlier(self, message: Incoming) -> None:
        if not message.retain:
            return  # our own message: brokers of 3.1.1 send it back
        leftovers = homeassistant.find_leftovers(message.payload, self._keys)
        if leftovers:
            _LOG.info(
                "%d entities of an earlier configuration are removed from Home Assistant", len(leftovers)
            )
            self._publisher.retained(
                self._topic, homeassistant.discovery(self._settings, self._topics, leftovers)
            )
            for camera in homeassistant.cameras_of(leftovers):
                self._publisher.retained(self._topics.state(camera), b"")

    def _take_back(self, message: Incoming) -> None:
        if message.retain and homeassistant.find_leftovers(message.payload, ()):
            _LOG.info("Home Assistant discovery is off: the device is removed")
            self._publisher.retained(self._topic, b"")
