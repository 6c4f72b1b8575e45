"""A headless Chromium that tests look into: its DevTools protocol over a pipe, so without any library."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tests.needs import program


class Tab:
    """One tab; what it reported is kept in ``events``."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    @property
    def events(self) -> list[dict[str, Any]]:
        """What happened in this tab so far."""
        return [event for event in self._browser.events if event.get("sessionId") == self._session]

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Carry out one command."""
        return self._browser.send(method, params, self._session)

    def show(self, path: Path, *, width: int, height: int, dark: bool, mobile: bool) -> None:
        """Open a file in a window of that size; returns once it is loaded."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        seen = len(self.events)
        self.send("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events[seen:]):
            self._browser.read()

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression; it is the tester's, so the page's policy does not hold for it."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG, not only what fits the window."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))


class Browser:
    """Chromium, spoken to with JSON ended by NUL over file descriptors 3 and 4."""

    def __init__(self, to: BinaryIO, out: BinaryIO) -> None:
        self._to, self._out = to, out
        self._count = 0
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    def tab(self) -> Tab:
        """Open an empty tab."""
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        return Tab(self, session)

    def send(self, method: str, params: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Carry out one command and return its result; what happens meanwhile goes to ``events``."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": params}
        if session is not None:
            command["sessionId"] = session
        self._to.write(json.dumps(command).encode() + b"\0")
        self._to.flush()
        while True:
            message = self.read()
            if message.get("id") == self._count:
                assert "error" not in message, (method, message)
                result: dict[str, Any] = message["result"]
                return result

    def read(self) -> dict[str, Any]:
        """Wait for the next message."""
        while b"\0" not in self._rest:
            part = os.read(self._out.fileno(), 1 << 16)
            assert part, "chromium is gone"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Run Chromium without a window and without a network; skip the test where it is not installed."""
    path = program("chromium", "chromium")
    theirs_in, mine_out = os.pipe()
    mine_in, theirs_out = os.pipe()
    # Bash gives it the pipes under the numbers that it expects.
    command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    process = subprocess.Popen(
        [
            "/bin/bash", "-c", command, path, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
        ],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        with os.fdopen(mine_out, "wb") as to, os.fdopen(mine_in, "rb") as out:
            browser = Browser(to, out)
            yield browser
            browser.send("Browser.close", {})
            process.wait(20)
    finally:
        process.kill()
        process.wait()
