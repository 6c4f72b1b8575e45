"""A real mosquitto on a random loopback port, and a subscriber that is not ours (mosquitto_sub)."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT_S = 20.0
STOP_S = 30.0
WAIT_S = 30.0


def have_mosquitto() -> bool:
    """Whether Debian's packages mosquitto and mosquitto-clients are installed."""
    return _mosquitto() is not None and shutil.which("mosquitto_sub") is not None


def _mosquitto() -> str | None:
    return shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


def free_port() -> int:
    """Return a TCP port on loopback that was free a moment ago.

    It lies below the range from which the kernel takes ports for outgoing connections, so that none of these takes it
    while a broker is down between two lives.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def eventually(
    condition: Callable[[], bool],
    what: str,
    *,
    within_s: float = WAIT_S,
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Wait until a condition holds; the limit is for a broken program, not a measure of speed.

    Where much has to happen on a machine that may be busy, the limit counts from the last change of ``progress``.
    """
    deadline = time.monotonic() + within_s
    before = progress()
    while True:
        began = time.monotonic()
        if condition():
            return
        if (now := progress()) != before:
            before, deadline = now, time.monotonic() + within_s
        if time.monotonic() > deadline:
            message = f"not within {within_s} s: {what}"
            raise AssertionError(message)
        # Looking is work too, and must leave the machine to what is waited for.
        time.sleep(min(0.25, max(0.01, 4 * (time.monotonic() - began))))


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files of a private authority, of a server on loopback and of a client called ``device``."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


LOOPBACK = "DNS:localhost,IP:127.0.0.1"
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory)


def _issue(directory: Path, name: str, common: str, extension: str, *, days: int = 2) -> tuple[Path, Path]:
    _openssl(
        directory, "req", *NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={common}"
    )
    (directory / f"{name}.ext").write_text(extension + "\n", encoding="ascii")
    _openssl(
        directory,
        *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-days", str(days), "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
    )
    return directory / f"{name}.crt", directory / f"{name}.key"


def make_certificates(directory: Path) -> Certificates:
    """Make an authority and certificates for a broker on 127.0.0.1 / localhost and one client, with openssl."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = ("-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority")
    _openssl(directory, "req", "-x509", *NEW_KEY, *authority)
    server = _issue(directory, "server", "localhost", f"subjectAltName={LOOPBACK}")
    client = _issue(directory, "client", "device", "extendedKeyUsage=clientAuth")
    return Certificates(directory / "ca.crt", *server, *client)


def issue_client(certificates: Certificates, name: str) -> tuple[Path, Path]:
    """Make one more client's certificate and key, with ``name`` as its common name."""
    return _issue(certificates.ca.parent, name, name, "extendedKeyUsage=clientAuth")


def reissue_server(certificates: Certificates, *, names: str = LOOPBACK, days: int = 2) -> None:
    """Replace the server's certificate and key; with ``days`` below 0 by an expired one."""
    _issue(certificates.ca.parent, "server", "server", f"subjectAltName={names}", days=days)


class Mosquitto:
    """A broker of one's own; a context manager that starts it.

    Args:
        directory: For its configuration, log and database.
        persistence: Whether retained messages and sessions survive a restart.
        users: Names and passwords; None lets everybody in.
        acl: Lines of an ACL file; "" for none.
        certificates: TLS with these; None for plain TCP.
        client_certificates: Whether clients must show a certificate, whose common name is then the user name.
        log: What it logs (``all``), beside the usual; "" for the usual.
        more: A further line of its configuration.

    Attributes:
        log: The file.
    """

    def __init__(
        self,
        directory: Path,
        *,
        persistence: bool = False,
        users: dict[str, str] | None = None,
        acl: str = "",
        certificates: Certificates | None = None,
        client_certificates: bool = False,
        log: str = "",
        more: str = "",
    ) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self.log = directory / "mosquitto.log"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listener {self.port} {self.host}",
            f"allow_anonymous {'true' if users is None else 'false'}",
            f"persistence {'true' if persistence else 'false'}",
            f"persistence_location {directory}/",
            "autosave_interval 1",
            "autosave_on_changes true",
            "max_queued_messages 1000000",  # a subscriber that is away a while misses nothing
            "user root",  # otherwise, started by root, it becomes a user who cannot read the directory
        ]
        if users is not None:
            passwords = directory / "passwords"
            passwords.touch(mode=0o600)
            for name, password in users.items():
                subprocess.run(["mosquitto_passwd", "-b", str(passwords), name, password], check=True)
            lines.append(f"password_file {passwords}")
        if log:
            lines.append(f"log_type {log}")
        if more:
            lines.append(more)
        if acl:
            (directory / "acl").write_text(acl, encoding="utf-8")
            (directory / "acl").chmod(0o600)
            lines.append(f"acl_file {directory / 'acl'}")
        if certificates is not None:
            lines += [
                f"cafile {certificates.ca}",
                f"certfile {certificates.server}",
                f"keyfile {certificates.server_key}",
            ]
            if client_certificates:
                lines += ["require_certificate true", "use_identity_as_username true"]
        self.config = directory / "mosquitto.conf"
        self.config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it listens; on the same port every time."""
        binary = _mosquitto()
        assert binary is not None, "install Debian's mosquitto"
        with (self._directory / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([binary, "-c", str(self.config)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise AssertionError((self._directory / "mosquitto.log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self, *, kill: bool = False) -> None:
        """End it, in order or (``kill``) without a chance to write anything."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            self._process.wait(STOP_S)
            self._process = None

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen broker go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Received:
    """What the subscriber was given."""

    topic: str
    payload: str
    retain: bool
    qos: int
    properties: dict[str, object]


class Subscriber:
    """mosquitto_sub in a process of its own; a context manager that waits until it is subscribed.

    Args:
        broker: Where.
        topic: A filter.
        extra: More arguments for mosquitto_sub, such as credentials.
        keep: Name of a session that the broker keeps, so that nothing is missed while the broker restarts.
    """

    def __init__(
        self, broker: Mosquitto, topic: str = "#", *, extra: tuple[str, ...] = (), keep: str = ""
    ) -> None:
        session = ("-i", keep, "-c") if keep else ()
        self._received: list[Received] = []
        self._subscribed = threading.Event()
        self._process = subprocess.Popen(
            [
                *(
                    "stdbuf",
                    "-oL",
                    "mosquitto_sub",
                    "-h",
                    broker.host,
                    "-p",
                    str(broker.port),
                    "-t",
                    topic,
                    "-q",
                    "1",
                ),
                *("-V", "5", "-F", "%j", "-d", *session, *extra),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("Subscribed ("):
                self._subscribed.set()
            if line.startswith("{"):
                item = json.loads(line)
                self._received.append(
                    Received(
                        item["topic"],
                        item["payload"],
                        bool(item["retain"]),
                        item["qos"],
                        item.get("properties", {}),
                    )
                )

    def __enter__(self) -> Self:
        assert self._subscribed.wait(START_TIMEOUT_S), "mosquitto_sub did not subscribe"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not SIGTERM: mosquitto_sub's handler takes locks that the interrupted program may hold, and waits for ever.
        self._process.kill()
        self._process.wait(STOP_S)
        self._reader.join(STOP_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def received(self) -> list[Received]:
        """Everything so far, in order."""
        return list(self._received)

    def payloads(self, topic: str) -> list[str]:
        """Payloads of one topic so far, in order."""
        return [item.payload for item in self.received if item.topic == topic]
