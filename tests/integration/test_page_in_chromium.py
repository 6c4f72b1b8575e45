"""The page in a browser, with hostile words in every field: nothing runs, nothing is loaded, nothing overflows.

Its pictures are for people, too: with EDGECLIP_SCREENSHOTS=DIR they are written there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.answer.page.document import page
from tests.chromium import Tab, chromium
from tests.page_material import HOSTILE, view

pytestmark = pytest.mark.slow

SIZES = {"phone": (360, 740), "desktop": (1280, 900)}
# Elements that reach out of the window, or whose words do not fit into them.
OVERFLOWING = """
[...document.querySelectorAll("body *")].filter((element) => {
  const box = element.getBoundingClientRect();
  const inside = element.closest("svg") && element.tagName !== "svg";
  const wider = !inside && !["IMG", "svg"].includes(element.tagName) && element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).display !== "inline";
  return (!inside && (box.left < -1 || box.right > innerWidth + 1)) || wider;
}).map((element) => element.tagName + "." + element.getAttribute("class") + " " + element.textContent.slice(0, 40))
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser.tab()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_hostile_words_neither_run_nor_overflow(tab: Tab, size: str, dark: bool, tmp_path: Path) -> None:
    width, height = SIZES[size]
    pages = tmp_path / "pages"
    pages.mkdir()
    for number, words in enumerate([*HOSTILE, "".join(HOSTILE), "calm words and nothing else"]):
        file = pages / f"{number}.html"
        file.write_bytes(page(view(words, shots=4)))
        seen = len(tab.events)
        tab.show(file, width=width, height=height, dark=dark, mobile=size == "phone")
        assert tab.evaluate("document.scripts.length") == 0
        assert tab.evaluate("typeof window.ran") == "undefined"
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate(OVERFLOWING) == [], words
        assert (
            tab.evaluate("getComputedStyle(document.body).display") == "block"
        )  # the style is the page's own
        check_quiet(tab, seen, file)
        if folder := os.environ.get("EDGECLIP_SCREENSHOTS"):
            tab.screenshot(Path(folder) / f"{number}-{size}-{'dark' if dark else 'light'}.png")


def check_quiet(tab: Tab, seen: int, file: Path) -> None:
    """Check that the page asked for nothing but itself and its own pictures, and that the policy stopped nothing."""
    happened = tab.events[seen:]
    asked = {
        event["params"]["request"]["url"]
        for event in happened
        if event["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:image/jpeg;base64,")} == {file.as_uri()}
    methods = {event["method"] for event in happened}
    assert "Page.javascriptDialogOpening" not in methods
    assert "Runtime.consoleAPICalled" not in methods
    assert "Runtime.exceptionThrown" not in methods
    assert [
        event["params"]["entry"]["text"] for event in happened if event["method"] == "Log.entryAdded"
    ] == []


def test_the_policy_would_stop_what_got_in(tab: Tab, tmp_path: Path) -> None:
    # Were the escaping ever broken, the policy still holds: nothing of this runs or is applied.
    smuggled = (
        b"<script>window.ran = 1</script><img src=x onerror='window.ran = 1'><style>body{display:none}</style>"
        b"<p style='display:none' id=styled>x</p></main>"
    )
    file = tmp_path / "broken.html"
    file.write_bytes(page(view("calm", shots=1)).replace(b"</main>", smuggled))
    tab.show(file, width=800, height=600, dark=False, mobile=False)
    assert tab.evaluate("typeof window.ran") == "undefined"
    assert tab.evaluate("getComputedStyle(document.body).display") == "block"
    assert tab.evaluate("getComputedStyle(document.getElementById('styled')).display") == "block"
