"""The publisher: one thread that keeps a connection to the broker and empties the outbox through it.

Availability is ``online`` from every connect on, ``offline`` through the will or a clean end. Subscriptions and retained
state are made anew on every connect, for brokers that keep nothing. Then come the outbox's messages, oldest first, a few
in flight, and before them what had to be dropped; a message leaves the outbox on its PUBACK. Whatever goes wrong ends the
connection, and after a pause, for ever, a fresh client takes its place. What the broker will not have waits by itself
(`edge.deliver.held`).
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paho.mqtt.client import topic_matches_sub
from paho.mqtt.enums import MQTTProtocolVersion

from edge.config import MqttSettings
from edge.deliver.commands import REPLIES, Incoming
from edge.deliver.connection import (
    OFFLINE,
    ONLINE,
    TIMEOUT_S,
    Connection,
    LostError,
    Parcel,
    ProtocolRefusedError,
)
from edge.deliver.dropped import announcement
from edge.deliver.held import Held, Item
from edge.deliver.outbox import Loss, Outbox, Outgoing
from edge.deliver.topics import Topics
from edge.errors import DeliveryError

ACK_TIMEOUT_S = 30.0  # a broker that acknowledges nothing for so long gets a new connection
STEADY_S = 10.0  # a connection that lasted so long makes the pause begin anew
TELEMETRY_KEPT = 32
_TURN_S = 0.5

_LOG = logging.getLogger(__name__)

Hearer = Callable[[Incoming], Outgoing | None]
"""Takes a message in the publisher's thread, which reads no further until it returns; what it returns is sent at once,
at QoS 0, unless the network is backed up."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts to connect: they double from ``first_s`` up to ``limit_s``, and each is jittered."""

    first_s: float = 1.0
    limit_s: float = 60.0

    def pause_s(self, attempt: int) -> float:
        """Return the pause after failed attempt number ``attempt`` (from 0): a random half to the whole."""
        whole = min(self.limit_s, self.first_s * 2.0 ** min(attempt, 30))
        return whole * random.uniform(0.5, 1.0)  # noqa: S311 - spreads a fleet, hides nothing


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker took us; ``protocol`` is the MQTT version."""

    protocol: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """There is no connection, for a new reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Acked:
    """The broker acknowledged a message of the outbox, and the outbox has let it go."""

    id: str


PublisherEvent = Connected | Disconnected | Acked


class Publisher:
    """Delivers one outbox to one broker. The methods may be called from any thread and do not wait for the network.

    Args:
        settings: The broker.
        topics: Where availability goes.
        outbox: What to deliver; messages leave it here.
        client_id: Name at the broker, one per device: a second one with the same name takes the first one's place.
        on_event: Told of connects, losses and acknowledgements, in the publisher's thread; what it raises is logged.
        backoff: Pauses between attempts to connect.
        ack_timeout_s: How long an acknowledgement may take before the connection counts as dead, seconds.
    """

    def __init__(
        self,
        settings: MqttSettings,
        topics: Topics,
        outbox: Outbox,
        *,
        client_id: str,
        on_event: Callable[[PublisherEvent], None] = lambda _event: None,
        backoff: Backoff = Backoff(),
        ack_timeout_s: float = ACK_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._outbox = outbox
        self._client_id = client_id
        self._on_event = on_event
        self._backoff = backoff
        self._ack_timeout_s = ack_timeout_s
        self._lock = threading.Lock()  # guards what other threads hand over: _retained, _stale, _telemetry
        self._retained = {topics.availability(): ONLINE}
        self._subscriptions: dict[str, tuple[Hearer, bool]] = {}  # by filter; True: also what is retained
        self._stale: dict[str, None] = {}  # topics of _retained to be published on this connection, in order
        self._telemetry: deque[tuple[str, bytes]] = deque(maxlen=TELEMETRY_KEPT)
        self._held = Held(time.monotonic)
        self._unsubscribed: list[str] = []  # filters of _subscriptions that this connection has not asked for
        self._announcing: dict[str, tuple[Loss, ...]] = {}  # by the id of the announcement in flight
        self._refused: set[str] = set()  # topics on which the broker refused the last message
        self._connected = False
        self._trouble = self._outbox_trouble = ""
        self._last_ack_s: float | None = None
        self._oldest_s = 0.0
        self._closing = threading.Event()
        self._deadline_s = 0.0
        self._drain = False
        self._last: Callable[[], Mapping[str, bytes]] = dict
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    # --- For the owner -----------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the present connection."""
        return self._connected

    @property
    def alive(self) -> bool:
        """Whether the publisher's thread is running."""
        return self._thread.is_alive()

    @property
    def trouble(self) -> str:
        """Why there is no connection, or ""."""
        return self._trouble

    @property
    def last_ack_age_s(self) -> float | None:
        """Seconds since the broker last acknowledged something; None before the first time."""
        return None if self._last_ack_s is None else time.monotonic() - self._last_ack_s

    @property
    def oldest_unacked_s(self) -> float:
        """For how long the oldest message in flight has waited for its acknowledgement; 0.0 where none does."""
        return self._oldest_s

    def subscribe(self, topic: str, hear: Hearer, *, kept: bool = False) -> None:
        """Listen to a topic or a filter on every connection; belongs before `start`.

        Args:
            topic: What to listen to.
            hear: Given each message; it must not wait, and what it raises is logged.
            kept: Also for what the broker has retained, on every connect.
        """
        self._subscriptions[topic] = (hear, kept)

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    def wake(self) -> None:
        """Say that the outbox has something new."""
        try:
            self._wake_w.send(b"\0")
        except BlockingIOError:
            pass  # it is full of reasons to wake up
        except OSError:
            pass  # closed: there is nothing to wake

    def retained(self, topic: str, payload: bytes) -> None:
        """Publish state, QoS 1 and retained, now and again on every connect; the newest per topic counts."""
        with self._lock:
            self._retained[topic] = payload
            self._stale[topic] = None
        self.wake()

    def republish(self) -> None:
        """Publish all retained state once more, ``online`` first."""
        with self._lock:
            self._stale = dict.fromkeys(self._retained)
        self.wake()

    def telemetry(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0; without a connection it is dropped, for it never enters the outbox."""
        if self._connected:
            with self._lock:
                self._telemetry.append((topic, payload))
            self.wake()

    def close(
        self, timeout_s: float, *, drain: bool = True, last: Callable[[], Mapping[str, bytes]] = dict
    ) -> None:
        """Send what can be sent, say ``offline``, disconnect and end the thread; what is left stays in the outbox.

        Without a connection one more attempt is made where something waits.

        Args:
            timeout_s: How long all this may take.
            drain: False: do not send what waits, only say ``offline``.
            last: Returns state to be published once all the rest is sent; called in the publisher's thread, if at all.
        """
        self._last = last
        self._deadline_s = time.monotonic() + timeout_s
        self._drain = drain
        self._closing.set()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + 1.0)
        if self._thread.is_alive():
            _LOG.warning("the MQTT thread does not end in time; the broker will publish the will")
            return
        self._wake_r.close()
        self._wake_w.close()

    # --- The thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        attempt = 0
        while True:
            begun_s = time.monotonic()
            last = self._closing.is_set()
            try:
                self._live()
            except LostError as error:
                self._say_lost(error.what)
            except Exception as error:  # noqa: BLE001 - a defect must not end delivery: the next client is a fresh one
                _LOG.exception("the MQTT connection failed unexpectedly")
                self._say_lost(f"internal error: {type(error).__name__}")
            else:
                return  # a clean end
            finally:
                self._connected = False
                self._oldest_s = 0.0
            attempt = 0 if time.monotonic() - begun_s >= STEADY_S else attempt + 1
            if not last:
                self._sleep(self._backoff.pause_s(max(0, attempt - 1)))
            if self._closing.is_set() and (last or not self._worth_an_attempt()):
                return

    def _worth_an_attempt(self) -> bool:
        return self._drain and self._outbox.stats().pending > 0 and time.monotonic() < self._deadline_s

    def _sleep(self, seconds: float) -> None:
        """Wait, unless the owner closes; commits in the meantime are no reason to try earlier."""
        self._closing.wait(seconds)

    def _live(self) -> None:
        """Live through one connection; returns only after a clean end.

        Raises:
            LostError: There is no connection (any longer).
        """
        connection = self._open()
        try:
            self._welcome(connection)
            while not self._closing.is_set():
                self._pump(connection)
                connection.turn(self._wake_r, _TURN_S)
                self._settle(connection)
                self._hear(connection)
            self._end(connection)
        except LostError:
            self._take_receipts(connection)  # what came before the end
            if not self._silent(connection) and (item := connection.oldest) is not None:
                self._suspect(item)
            raise
        finally:
            connection.close()

    def _open(self) -> Connection:
        try:
            return self._connect(MQTTProtocolVersion.MQTTv5)
        except ProtocolRefusedError:
            return self._connect(MQTTProtocolVersion.MQTTv311)

    def _connect(self, protocol: MQTTProtocolVersion) -> Connection:
        timeout_s = TIMEOUT_S
        if self._closing.is_set():
            timeout_s = max(0.1, min(timeout_s, self._deadline_s - time.monotonic()))
        return Connection(
            self._settings,
            client_id=self._client_id,
            protocol=protocol,
            will_topic=self._topics.availability(),
            timeout_s=timeout_s,
        )

    def _welcome(self, connection: Connection) -> None:
        self._unsubscribed = list(self._subscriptions)
        with self._lock:
            self._stale = dict.fromkeys(self._retained)
            self._telemetry.clear()
        self._held.connected()
        self._announcing.clear()
        self._connected = True
        self._trouble = ""
        _LOG.info("connected to %s:%d, %s", self._settings.host, self._settings.port, connection.protocol)
        self._tell(Connected(connection.protocol))

    def _pump(self, connection: Connection) -> None:
        """Send what there is room for: subscriptions, state, then the outbox in order; telemetry needs no room."""
        self._drain_wake()
        held = self._held.lines
        for topic in [topic for topic in self._unsubscribed if topic not in held][: self._room(connection)]:
            self._unsubscribed.remove(topic)
            connection.subscribe(topic, kept=self._subscriptions[topic][1])
        with self._lock:
            telemetry = list(self._telemetry)
            self._telemetry.clear()
            fresh = [
                Parcel(topic, self._retained[topic], retain=True)
                for topic in [topic for topic in self._stale if topic not in held][: self._room(connection)]
            ]
            for parcel in fresh:
                del self._stale[parcel.topic]
        for topic, payload in telemetry:
            connection.send_unconfirmed(topic, payload)
        for parcel in fresh:
            connection.send(parcel)
        self._pump_outbox(connection, held)

    def _room(self, connection: Connection) -> int:
        """Return how much more may be sent now."""
        return max(0, (1 if self._held.careful else connection.window) - connection.unconfirmed)

    def _pump_outbox(self, connection: Connection, held: frozenset[str]) -> None:
        if not self._room(connection):
            return
        in_flight = connection.in_flight
        try:
            waiting = [message for message in self._announcements(in_flight) if message.camera not in held]
            waiting += self._outbox.pending(connection.window, without=held)
        except DeliveryError as error:
            self._say_outbox(error)
            return
        self._outbox_trouble = ""
        for message in waiting:
            if not self._room(connection):
                break
            if message.id not in in_flight:
                connection.send(
                    Parcel(message.topic, message.payload, retain=False, id=message.id, camera=message.camera)
                )

    def _announcements(self, in_flight: set[str]) -> list[Outgoing]:
        """Return what tells of dropped messages: one a camera."""
        self._announcing = {key: self._announcing[key] for key in in_flight if key in self._announcing}
        by_camera: dict[str, list[Loss]] = {}
        for loss in self._outbox.losses():
            by_camera.setdefault(loss.camera, []).append(loss)
        messages = []
        for camera, losses in by_camera.items():
            message = announcement(self._topics, self._outbox.epoch, camera, losses)
            self._announcing[message.id] = tuple(losses)
            messages.append(message)
        return messages

    def _settle(self, connection: Connection) -> None:
        """Take the receipts, and give up a connection that brings none."""
        self._take_receipts(connection)
        self._oldest_s = connection.oldest_s()
        if self._silent(connection):
            raise LostError("the broker acknowledges nothing")

    def _silent(self, connection: Connection) -> bool:
        return connection.oldest_s() > self._ack_timeout_s

    def _take_receipts(self, connection: Connection) -> None:
        """What is acknowledged leaves the outbox."""
        for topic, refusal in connection.subscribed():
            self._judge(Item(topic, topic), topic, refusal, "the subscription to")
        receipts = connection.receipts()
        if receipts:
            self._last_ack_s = time.monotonic()
        for receipt in receipts:
            parcel = receipt.parcel
            if not receipt.refusal or not self._give_up(parcel.item, receipt.refusal):
                self._judge(parcel.item, parcel.topic, receipt.refusal, "messages on")
        delivered = [r.parcel.id for r in receipts if r.parcel.id is not None and not r.refusal]
        if delivered:
            try:
                for key in delivered:
                    self._outbox.announced(self._announcing.pop(key, ()))
                self._outbox.ack(*delivered)
            except DeliveryError as error:
                self._say_outbox(error)
            for key in delivered:
                self._tell(Acked(key))

    def _hear(self, connection: Connection) -> None:
        """Hand on what arrived, and send what is to be said at once."""
        for message in connection.arrived():
            for topic, (hear, _) in self._subscriptions.items():
                if topic_matches_sub(topic, message.topic):
                    self._say(connection, hear, message)

    def _say(self, connection: Connection, hear: Hearer, message: Incoming) -> None:
        try:
            answer = hear(message)
        except Exception:  # noqa: BLE001 - whatever somebody else sends must not end delivery
            _LOG.exception("a message on %s could not be dealt with", ascii(message.topic))
            return
        if answer is not None and not connection.backed_up:
            connection.send_unconfirmed(answer.topic, answer.payload)

    def _judge(self, item: Item, topic: str, refusal: str, what: str) -> None:
        """Hold back a line of which the broker refused something: it stays first in line, and is tried again."""
        if not refusal:
            self._held.taken(item)
            self._refused.discard(topic)
            return
        self._held.refused(item)
        if topic not in self._refused:
            self._refused.add(topic)
            _LOG.warning("the broker refuses %s %s: %s; tried again later", what, topic, refusal)

    def _suspect(self, item: Item) -> None:
        """Hold back what the broker drops the connection over."""
        if not self._held.dropped(item) or self._give_up(item, "it drops the connection over it"):
            return
        if item.line not in self._refused:
            self._refused.add(item.line)
            _LOG.warning("the broker drops the connection over %s; it waits, and is tried again", item.line)

    def _give_up(self, item: Item, refusal: str) -> bool:
        """Give up a reply: its topic is the caller's choice, and must not stand in the way of other replies."""
        if item.line != REPLIES:
            return False
        self._held.given_up(item)
        self._outbox.ack(item.key)
        _LOG.warning("the broker refuses a reply where its caller wants it: %s", refusal)
        return True

    def _end(self, connection: Connection) -> None:
        """Send what the time allows, say ``offline`` and disconnect."""
        reserve_s = min(1.0, max(0.0, self._deadline_s - time.monotonic()) / 4)  # for offline and its PUBACK
        while self._drain and time.monotonic() < self._deadline_s - reserve_s:
            self._pump(connection)
            if not connection.unconfirmed:
                break  # nothing waits that the broker would take
            connection.turn(None, _TURN_S / 10)
            self._settle(connection)
        for topic, payload in self._last().items():
            connection.send(Parcel(topic, payload, retain=True))
        connection.send(Parcel(self._topics.availability(), OFFLINE, retain=True))
        while not connection.idle and time.monotonic() < self._deadline_s:
            connection.turn(None, _TURN_S / 10)
            self._settle(connection)
        connection.disconnect()
        _LOG.info("disconnected from %s:%d", self._settings.host, self._settings.port)

    # --- Words -------------------------------------------------------------------------------------------------------

    def _say_lost(self, reason: str) -> None:
        if self._connected or reason != self._trouble:
            _LOG.warning("broker %s:%d: %s; trying again", self._settings.host, self._settings.port, reason)
            self._trouble = reason
            self._connected = False
            self._tell(Disconnected(reason))

    def _say_outbox(self, error: DeliveryError) -> None:
        if error.what != self._outbox_trouble:
            self._outbox_trouble = error.what
            _LOG.error("%s", error.render())

    def _tell(self, event: PublisherEvent) -> None:
        try:
            self._on_event(event)
        except Exception:  # noqa: BLE001 - the owner's defect must not end delivery
            _LOG.exception("the owner of the publisher failed on %s", type(event).__name__)

    def _drain_wake(self) -> None:
        try:
            while self._wake_r.recv(4096):
                pass
        except BlockingIOError:
            pass
