"""One life of a connection to the broker: opened, turned by its owner's thread, closed, never used again.

paho-mqtt serves as the protocol only. Its own thread, its reconnecting and its queue in memory are not used: a thread
of paho's that dies of an exception still calls itself connected, and its queue would be a second outbox that refuses
the newest when full. Here a lost connection takes everything with it that was not acknowledged; the outbox has it.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import ssl
import time
from dataclasses import dataclass

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.config import MqttSettings
from edge.deliver.commands import Incoming
from edge.deliver.held import Item
from edge.errors import DeliveryError, EdgeError

ONLINE = b"online"
OFFLINE = b"offline"
WINDOW = 8  # messages of QoS 1 that may wait for their acknowledgement at once
EXPIRY_S = 7 * 24 * 3600  # MQTT 5: how long a broker keeps an answer for a subscriber that is away
TIMEOUT_S = 10.0  # for TCP, for TLS and for the CONNACK
PACKET_MAX_BYTES = 2**20  # MQTT 5: the broker keeps what is larger to itself; we take commands of 8 KiB
SILENCE_S = 3.0  # a broker of 3.1.1 may misread MQTT 5's CONNECT and wait for more of it (amqtt does)

REPLY_SCHEMA = "edgeclip.reply/1"
_UNSUPPORTED_VERSION = 0x84  # MQTT 5, 3.2.2.2; paho translates 3.1.1's code 1 to it
_PROTOCOL_NAMES = {MQTTProtocolVersion.MQTTv5: "MQTT 5", MQTTProtocolVersion.MQTTv311: "MQTT 3.1.1"}


class LostError(DeliveryError):
    """There is no connection (any longer); ``what`` says why. It is worth trying again."""


class ProtocolRefusedError(LostError):
    """The broker does not speak this version of MQTT: it said so, or did not answer the CONNECT."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is published at QoS 1: a message of the outbox, or retained state, which has no id there."""

    topic: str
    payload: bytes
    retain: bool
    id: str | None = None
    camera: str = ""

    @property
    def item(self) -> Item:
        """What it is among what may have to wait."""
        return Item(self.topic, self.topic) if self.id is None else Item(self.camera, self.id)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The broker's answer to a parcel; ``refusal`` is "" where it took it."""

    parcel: Parcel
    refusal: str


@dataclass(frozen=True, slots=True)
class _Flight:
    parcel: Parcel
    since_s: float


class Connection:
    """A connected paho client, driven by one thread through `turn`.

    The constructor connects: name, TCP, TLS, CONNECT, CONNACK. The will ``offline`` is part of it.

    Args:
        settings: Broker, credentials and certificates; files are read anew for every connection.
        client_id: Name of the session at the broker; there is no session state.
        protocol: MQTT version to speak.
        will_topic: Where the broker announces ``offline`` when the connection breaks.
        timeout_s: Limit for each step of connecting.

    Raises:
        ProtocolRefusedError: The broker does not speak ``protocol``.
        LostError: Anything else that prevents a connection.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        client_id: str,
        protocol: MQTTProtocolVersion,
        will_topic: str,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.protocol = _PROTOCOL_NAMES[protocol]
        self.window = WINDOW
        self._flights: dict[int, _Flight] = {}
        self._receipts: list[Receipt] = []
        self._arrived: list[Incoming] = []
        self._subscriptions: dict[
            int, tuple[str, float]
        ] = {}  # not confirmed: filter and since when, by message id
        self._subscribed: list[tuple[str, str]] = []
        self._open = False
        self._refused = False  # for another reason than the version
        self._lost = ""
        self._five = protocol == MQTTProtocolVersion.MQTTv5
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, reconnect_on_failure=False
        )
        self._client.connect_timeout = timeout_s
        self._client.max_inflight_messages_set(2 * WINDOW)  # ours is the smaller one, so paho never queues
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.will_set(will_topic, OFFLINE, qos=1, retain=True)
        try:
            self._connect(settings, timeout_s)
        except BaseException:
            self.close()
            raise

    # --- Life --------------------------------------------------------------------------------------------------------

    def _connect(self, settings: MqttSettings, timeout_s: float) -> None:
        try:
            if settings.username:
                self._client.username_pw_set(settings.username, settings.password())
            if settings.tls:
                self._client.tls_set_context(_tls(settings))
            limits = None
            if self._five:
                limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                limits.MaximumPacketSize = PACKET_MAX_BYTES
            self._client.connect(settings.host, settings.port, settings.keepalive_s, properties=limits)
        except EdgeError as error:
            raise LostError("; ".join([error.what, *error.evidence])) from error
        except ssl.SSLCertVerificationError as error:
            raise LostError(f"the broker's certificate is refused: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise LostError(f"TLS failed: {error.reason or error}") from error
        except TimeoutError as error:
            raise LostError("the broker does not answer") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be encoded
            raise LostError(getattr(error, "strerror", None) or str(error)) from error
        sock = self._client.socket()
        # A reply that follows a PUBACK would wait 40 ms for the broker's delayed TCP ACK.
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deadline = time.monotonic() + (min(SILENCE_S, timeout_s) if self._five else timeout_s)
        while not self._open:
            if time.monotonic() > deadline:
                raise ProtocolRefusedError("the broker does not answer the CONNECT")
            self.turn(None, 0.2)

    def disconnect(self) -> None:
        """Part from the broker in order, so that it forgets the will."""
        self._client.disconnect()

    def close(self) -> None:
        """Close the socket, if it is still open, without a word; the broker then publishes the will."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def turn(self, wake: socket.socket | None, timeout_s: float) -> None:
        """Wait for the network or for ``wake``, read, write and keep alive.

        Raises:
            ProtocolRefusedError: Instead of a connection the broker refused the version.
            LostError: The connection is gone.
        """
        sock = self._client.socket()
        if sock is None or self._lost:
            raise self._loss()
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        if wake is not None:
            poll.register(wake, select.POLLIN)
        buffered = (
            isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        )  # decrypted already: poll does not see it
        events = dict(poll.poll(0 if buffered else timeout_s * 1000))
        mine = events.get(sock.fileno(), 0)
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        if buffered or mine & ~select.POLLOUT:
            code = self._client.loop_read()
        if not code and mine & select.POLLOUT:
            code = self._client.loop_write()
        if not code:
            code = self._client.loop_misc()
        if code or self._lost:
            self._lost = self._lost or _error_text(code)
            raise self._loss()

    def _loss(self) -> LostError:
        text = self._lost or "the connection was lost"
        return LostError(text) if self._open or self._refused else ProtocolRefusedError(text)

    # --- Messages ----------------------------------------------------------------------------------------------------

    @property
    def unconfirmed(self) -> int:
        """How many parcels and subscriptions wait for the broker's answer."""
        return len(self._flights) + len(self._subscriptions)

    @property
    def oldest(self) -> Item | None:
        """What has waited longest for the broker's answer."""
        waiting = [(flight.since_s, flight.parcel.item) for flight in self._flights.values()]
        waiting += [(since_s, Item(topic, topic)) for topic, since_s in self._subscriptions.values()]
        return min(waiting, key=lambda entry: entry[0])[1] if waiting else None

    @property
    def in_flight(self) -> set[str]:
        """Ids of the outbox's messages that wait for their acknowledgement."""
        return {flight.parcel.id for flight in self._flights.values() if flight.parcel.id is not None}

    @property
    def idle(self) -> bool:
        """Whether nothing waits for an acknowledgement."""
        return not self._flights

    def oldest_s(self) -> float:
        """Return for how long the oldest parcel has waited for its acknowledgement; 0.0 where none does."""
        return max((time.monotonic() - flight.since_s for flight in self._flights.values()), default=0.0)

    def send(self, parcel: Parcel) -> None:
        """Publish at QoS 1.

        Raises:
            LostError: The connection is gone.
        """
        info = self._client.publish(
            parcel.topic, parcel.payload, qos=1, retain=parcel.retain, properties=self._properties(parcel)
        )
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._lost = self._lost or _error_text(info.rc)
            raise self._loss()
        self._flights[info.mid] = _Flight(parcel, time.monotonic())

    def send_unconfirmed(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0."""
        parcel = Parcel(topic, payload, retain=False)
        self._client.publish(topic, payload, qos=0, properties=self._properties(parcel))

    @property
    def backed_up(self) -> bool:
        """Whether the network does not take what was sent."""
        return self._client.want_write()

    def subscribe(self, topic: str, *, kept: bool) -> None:
        """Ask for messages, QoS 1.

        Args:
            topic: The filter.
            kept: Also for what the broker has retained, which comes first and is marked. Without it such messages do
                not come under MQTT 5, and a new one that is meant to be retained is marked.

        Raises:
            LostError: The connection is gone.
        """
        if self._five and not kept:
            options = SubscribeOptions(
                qos=1, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
            )
            code, mid = self._client.subscribe(topic, options=options)
        else:
            code, mid = self._client.subscribe(topic, qos=1)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            self._lost = self._lost or _error_text(code)
            raise self._loss()
        self._subscriptions[mid] = topic, time.monotonic()

    def subscribed(self) -> list[tuple[str, str]]:
        """Return the filters that the broker has answered since the last call, and its words where it refused."""
        subscribed, self._subscribed = self._subscribed, []
        return subscribed

    def arrived(self) -> list[Incoming]:
        """Return what the broker has delivered since the last call."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def receipts(self) -> list[Receipt]:
        """Return what the broker has answered since the last call."""
        receipts, self._receipts = self._receipts, []
        return receipts

    def _properties(self, parcel: Parcel) -> Properties | None:
        if not self._five:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        schema, correlation = _marks(parcel.payload)
        if correlation:
            properties.CorrelationData = correlation
        if schema:
            properties.PayloadFormatIndicator = 1  # UTF-8
            properties.ContentType = "application/json"
            properties.UserProperty = ("schema", schema)
        if not parcel.retain:
            properties.MessageExpiryInterval = EXPIRY_S
        return properties

    # --- paho's callbacks; they run inside `turn` and `send`, and only take notes -------------------------------------

    def _on_connect(
        self,
        _client: Client,
        _data: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._refused = reason.value != _UNSUPPORTED_VERSION
            self._lost = f"the broker refused the connection: {reason}"
            return
        self._open = True
        self.window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._lost = self._lost or f"the connection was lost: {reason}"

    def _on_publish(
        self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        flight = self._flights.pop(mid, None)  # QoS 0 comes here too, and has no flight
        if flight is not None:
            self._receipts.append(Receipt(flight.parcel, str(reason) if reason.is_failure else ""))

    def _on_subscribe(
        self,
        _client: Client,
        _data: object,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        topic, _ = self._subscriptions.pop(mid, ("", 0.0))
        refusals = [str(reason) for reason in reasons if reason.is_failure]
        self._subscribed.append((topic, refusals[0] if refusals else ""))

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # no broker lets it pass
            topic = ""
        properties = message.properties
        self._arrived.append(
            Incoming(
                topic=topic,
                payload=bytes(message.payload),
                retain=message.retain,
                response_topic=getattr(properties, "ResponseTopic", ""),
                correlation=getattr(properties, "CorrelationData", b""),
            )
        )


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho would leave that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the base's signature
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _tls(settings: MqttSettings) -> ssl.SSLContext:
    """Return a context that verifies certificate and host name, with our own certificate where there is one."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.ca_file is not None:
            # Python 3.13 began to demand extensions that most home-made authorities lack. Chain, dates and host name
            # are verified as ever.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:
        names = ", ".join(str(f) for f in (settings.ca_file, settings.cert_file, settings.key_file) if f)
        raise LostError(f"the certificates cannot be used ({names}): {error.strerror or error}") from error
    context.sslsocket_class = _TlsSocket
    return context


def _marks(payload: bytes) -> tuple[str, bytes]:
    """Return the schema that a payload says it follows, or "", and a reply's correlation data, or b""."""
    if not payload.startswith(b"{"):
        return "", b""
    try:
        message = json.loads(payload)
    except ValueError:
        return "", b""
    schema = message.get("schema")
    if schema == REPLY_SCHEMA:
        return schema, base64.b64decode(message["correlation"])
    return schema if isinstance(schema, str) else "", b""


def _error_text(code: MQTTErrorCode) -> str:
    return f"the connection was lost: {code.name.removeprefix('MQTT_ERR_').replace('_', ' ').lower()}"
