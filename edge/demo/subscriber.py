"""The subscriber of `edge demo`: what somebody else on the network would receive, through a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import DeliveryError

_START_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Received:
    """One message as the broker handed it over; ``retain`` is true for what was published before we came."""

    topic: str
    payload: bytes
    retain: bool
    qos: int


class Subscriber:
    """Subscribes at QoS 1 and collects; a context manager.

    Args:
        host: Of the broker.
        port: Of the broker.
        topic: The filter.
        on_message: Called with each message, in the subscriber's thread.

    Raises:
        DeliveryError: From entering: there is no broker, or it does not accept the subscription.
    """

    def __init__(
        self,
        host: str,
        port: int,
        topic: str = "#",
        *,
        on_message: Callable[[Received], None] = lambda _received: None,
    ) -> None:
        self._host = host
        self._port = port
        self._topic = topic
        self._tell = on_message
        self._received: list[Received] = []
        self._news = threading.Condition()
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.suppress_exceptions = True  # an exception in a callback would end the network thread
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        try:
            self._client.connect(self._host, self._port)
        except OSError as error:
            raise DeliveryError(
                f"there is no broker at {self._host}:{self._port}", evidence=[error.strerror or str(error)]
            ) from error
        self._client.loop_start()
        if not self._subscribed.wait(_START_TIMEOUT_S):
            self._stop()
            raise DeliveryError(f"the broker at {self._host}:{self._port} does not accept a subscription")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def received(self) -> list[Received]:
        """Everything so far, in order."""
        with self._news:
            return list(self._received)

    def wait_for(self, enough: Callable[[list[Received]], bool], timeout_s: float) -> bool:
        """Wait until what was received is enough; False when the time is over before."""
        with self._news:
            return self._news.wait_for(lambda: enough(self._received), timeout_s)

    def _on_connect(
        self,
        client: Client,
        _data: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if not reason.is_failure:
            client.subscribe(self._topic, qos=1)

    def _on_subscribe(
        self,
        _client: Client,
        _data: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if not any(reason.is_failure for reason in reasons):
            self._subscribed.set()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        received = Received(message.topic, bytes(message.payload), message.retain, message.qos)
        with self._news:
            self._received.append(received)
            self._news.notify_all()
        self._tell(received)
