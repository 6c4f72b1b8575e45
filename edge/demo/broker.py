"""The broker of `edge demo`: amqtt on a random loopback port, in a process of its own.

A process, so that the broker's event loop, its log and its deprecation warnings stay out of the demo. It ends with the
process that started it, however that ends, because it reads its standard input to the end.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import socket
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from edge.errors import DeliveryError

HOST = "127.0.0.1"
_READY = "ready"
_START_TIMEOUT_S = 30.0


class DemoBroker:
    """An MQTT 3.1.1 broker for anybody on this machine; a context manager.

    Attributes:
        host: Loopback.
        port: Known after `start`.
    """

    def __init__(self) -> None:
        self.host = HOST
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            DeliveryError: amqtt is not installed, or the broker does not start.
        """
        if importlib.util.find_spec("amqtt") is None:
            raise DeliveryError(
                "the embedded broker is not installed", next_step='Install it: pip install "edgeclip[demo]"'
            )
        self.port = _free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "edge.demo.broker", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        watchman = threading.Timer(_START_TIMEOUT_S, self._process.kill)  # ends the read below
        watchman.start()
        try:
            assert self._process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
            line = self._process.stdout.readline().strip()
        finally:
            watchman.cancel()
        if line != _READY:
            self.stop()
            raise DeliveryError(
                "the embedded broker does not start",
                evidence=[line] if line else [],
                next_step="Run `edge run` with a broker of your own instead.",
            )

    def stop(self) -> None:
        """End it; calling it again does nothing."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


async def _serve(port: int) -> None:
    from amqtt.broker import Broker

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    sys.stdout.write(f"{_READY}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def _main() -> None:
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(_serve(int(sys.argv[1])))
    except Exception as error:  # noqa: BLE001 - amqtt's own; the parent shows the line
        sys.stdout.write(f"{type(error).__name__}: {error}\n")


if __name__ == "__main__":
    _main()
