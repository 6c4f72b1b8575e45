"""Whatever a text holds, a parser reads it back as that text, in that place."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.answer.page.markup import Html, join, percent, tag
from edge.answer.text import plain
from tests.page_material import HOSTILE


class Reader(HTMLParser):
    """Notes tags with their attributes, and all text."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


@settings(deadline=None)
@given(st.text(max_size=80))
@example("</p><script>")
@example("&lt;")
@example("'\"><!--")
def test_a_text_is_read_back_as_itself_and_adds_no_tag(words: str) -> None:
    read = Reader(tag("p", words, title=words))
    assert read.words == plain(words)
    assert read.tags == [("p", {"title": plain(words)})]


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_texts_are_texts(words: str) -> None:
    assert Reader(join(words, tag("b", words))).tags == [("b", {})]


def test_only_finished_markup_is_taken_as_it_is() -> None:
    inner = tag("b", "x")
    assert tag("p", inner, "<i>") == "<p><b>x</b>&lt;i&gt;</p>"
    assert tag("p", str(inner)) == "<p>&lt;b&gt;x&lt;/b&gt;</p>"
    assert isinstance(inner, Html)


def test_attributes_are_spelt_as_html_spells_them() -> None:
    assert (
        tag("meta", name="a", http_equiv="b", class_=None, x=0.12345)
        == '<meta name="a" http-equiv="b" x="0.12">'
    )
    assert percent(0.12345) == "12.35%"
    assert percent(1) == "100%"
