"""Tells of watches: answers in, alerts for the outbox and retained states out, and what must survive a restart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from edge.answer.watch import Change, Watches
from edge.config import Settings, WatchSettings
from edge.deliver.outbox import Outgoing
from edge.deliver.topics import Topics
from edge.messages import Alert, Answer

NOTE = "watches"  # under which the outbox notes how they stand

log = logging.getLogger(__name__)


class Alerts:
    """One for the life of the service.

    Args:
        settings: The configuration.
        topics: Where messages go.
        kept: What an earlier run had noted under `NOTE`.
        retained: Publishes state.
    """

    def __init__(
        self, settings: Settings, topics: Topics, kept: str, retained: Callable[[str, bytes], None]
    ) -> None:
        self._topics = topics
        self._retained = retained
        self._watches = Watches(
            settings.device.id, settings.watch, [camera.id for camera in settings.camera], kept
        )

    def begin(self) -> list[Outgoing]:
        """Return what is to be said of watches that went away since the last run."""
        return self._tell(self._watches.begin())

    def reconfigure(self, rules: Sequence[WatchSettings]) -> list[Outgoing]:
        """Take other rules, and return what is to be said of those that went away."""
        return self._tell(self._watches.reconfigure(rules))

    def take(self, answer: Answer) -> list[Outgoing]:
        """Return the alerts to which an answer leads."""
        return self._tell(self._watches.take(answer))

    def notes(self) -> dict[str, str]:
        """Return what is to be noted with the messages, in one transaction."""
        return {NOTE: self._watches.dump()}

    def _tell(self, changes: Sequence[Change]) -> list[Outgoing]:
        for change in changes:
            payload = b"" if change.state is None else change.state.payload()
            self._retained(self._topics.alert_state(change.camera, change.rule), payload)
        return [self._message(change.alert) for change in changes if change.alert is not None]

    def _message(self, alert: Alert) -> Outgoing:
        log.info("camera %s: watch %s is %s", alert.camera, alert.rule, alert.state)
        topic = self._topics.alert(alert.camera, alert.rule)
        return Outgoing(id=alert.id, topic=topic, payload=alert.payload(), camera=alert.camera, seq=alert.seq)
