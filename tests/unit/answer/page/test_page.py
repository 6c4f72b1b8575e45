"""The page as a document: what it says, that it holds everything it needs, and that no text can change what it is."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.answer.page import language
from edge.answer.page.document import page
from edge.answer.page.view import Asked, Seen, View
from edge.messages import Event, Relation
from tests.page_material import HOSTILE, answer, seen, view

VOID = {"br", "hr", "img", "link", "meta"}
CSS = files("edge.answer.page").joinpath("page.css").read_text(encoding="utf-8")


class Document(HTMLParser):
    """Reads a page; an end tag that does not close what was opened last is an error."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(content.decode("utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    @property
    def said(self) -> str:
        return " ".join(
            " ".join(text for where, text in self.texts if where not in {"style", "title"}).split()
        )

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def structure(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.tags]


CALM = view("calm words")
CALM_STRUCTURE = Document(page(CALM)).structure
SMALL_STRUCTURE = Document(page(view("calm words", shots=1, size=(8, 8)))).structure


def without_length(structure: list[tuple[str, tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
    """Leave out that a long heading has a class of its own."""
    return [(tag, ("dir",) if tag == "h1" else attributes) for tag, attributes in structure]


def check_safe(document: Document) -> None:
    """Check what holds of every page: nothing runs, nothing is loaded, nothing is sent anywhere."""
    names = {tag for tag, _ in document.tags}
    assert not names & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
        "a",
        "input",
        "foreignobject",
    }
    assert len(document.all("style")) == 1
    for tag, attributes in document.tags:
        assert not [
            name for name in attributes if name.startswith("on") or name in {"style", "srcset", "href"}
        ]
        if "src" in attributes:
            assert tag == "img"
            assert re.fullmatch(r"data:image/jpeg;base64,[A-Za-z0-9+/]+=*", attributes["src"])


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_words_change_nothing_but_the_words(words: str) -> None:
    document = Document(page(view(words)))
    check_safe(document)
    assert without_length(document.structure) == without_length(CALM_STRUCTURE)


@settings(deadline=None, max_examples=40)
@given(st.text(min_size=1, max_size=70))
def test_no_words_at_all_change_the_structure(words: str) -> None:
    document = Document(page(view(words, shots=1, size=(8, 8))))
    check_safe(document)
    assert without_length(document.structure) == without_length(SMALL_STRUCTURE)


def test_the_policy_allows_the_one_style_and_the_pictures_inside() -> None:
    document = Document(page(CALM))
    metas = document.all("meta")
    (policy,) = [meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy"]
    (style,) = [text for where, text in document.texts if where == "style"]
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'", "img-src data:", f"style-src 'sha256-{hashed}'", "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    assert metas[0] == {"charset": "utf-8"}  # the encoding comes before the first text
    assert "url(" not in style
    assert "@import" not in style


def test_a_minute_of_the_costliest_pictures_stays_below_two_megabytes() -> None:
    events = tuple(Event(what="x", start=i, end=i + 2, valid=True) for i in range(8))
    both = (answer("summary", "x", events=events), answer("spatial", "x"))
    assert len(page(view("x", *both, size=(768, 576)))) < 2_000_000


def test_a_reader_is_told_what_when_where_and_by_whom() -> None:
    report = (
        answer(
            "summary", "People walk by", gaps=(), status="answered",
            events=(
                Event(what="a dog runs", start=3.2, end=12.9, valid=True),
                Event(what="a car flies", start=50, end=2, valid=False),
            ),
        ),
        answer(
            "spatial", "A dog by a tree",
            objects=(seen("dog", 0.1, 0.7, 0.2, 0.9), seen("tree", 0.5, 0.1, 0.6, 0.8), seen("sky", 0.5, 0.5, 0.5, 0.5, valid=False)),
            relations=(Relation(subject="dog", relation="left of", object="tree"),),
        ),
    )  # fmt: skip
    said = Document(page(view("yard.mp4", *report))).said
    for words in (
        "People walk by", "a dog runs", "0:03.2 \N{EN DASH} 0:12.9", "impossible times, as the model wrote them",
        "A dog by a tree", "dog left of tree", "lower left", "impossible or repeated box, not drawn",
        "confidence 0.50, not calibrated", "cut short", "cleaned", "part of the clip was not seen",
        "480 at 8 a second, 3 repeat the one before, 2 missing", "2 packets that could not be decoded",
        "shown to the model at 256 \N{MULTIPLICATION SIGN} 192", "13,900 with a question at most, 90 written", "f" * 64, "by a clock that nobody set",
        "Not seen: 0:20 \N{EN DASH} 0:27.5 ( A dog by a tree ).", "16.0 s for 60.0 s of video", "0:00 \N{EN DASH} 1:00 of 1:19.5",
        "It is not calibrated", "Energy 2,982 J of the whole machine, estimated", "51 °C, the processor was slowed",
        "less was done: fewer frames (heat, budget)",
    ):  # fmt: skip
        assert words in said
    assert "/home/somebody" not in said


def bars(document: Document) -> list[tuple[str, str, str]]:
    shown = [rect for rect in document.all("rect") if rect.get("class") == "shown"]
    return [(rect["x"], rect["width"], rect["height"]) for rect in shown]


def test_what_the_model_was_shown_is_one_bar_where_nothing_was_dropped() -> None:
    document = Document(page(CALM))
    assert bars(document) == [("0%", "100%", "20")]
    assert "Shown to the model: 240 pairs of frames" in document.said
    assert "13,640 of video, 13,900 with a question at most, 90 written" in document.said


def test_what_the_gate_kept_stands_out_by_how_much_had_changed() -> None:
    report = CALM.report.model_copy(
        update={
            "gate": 1.0,
            "counts": CALM.report.counts.model_copy(
                update={"pairs": 4, "pairs_gated": 236, "tokens_saved": 9000}
            ),
        }
    )
    kept = (Seen(0, 1.0), Seen(60, 0.25), Seen(61, 0.25), Seen(239, 0.0))
    document = Document(page(View(report=report, seen=kept)))
    assert bars(document) == [("0%", "0.42%", "20"), ("25%", "0.83%", "10"), ("99.58%", "0.42%", "4")]
    assert "4 of 240 pairs of frames; in the others the gate found nothing new" in document.said
    assert "written; the gate saved some 9,000" in document.said
    assert "Gate threshold 1, 236 pairs dropped" in document.said


def test_what_was_worked_out_and_how_sure_the_model_was_stands_beside_the_words() -> None:
    said = Document(page(CALM)).said
    for words in (
        "3 people", "1 vehicle", "0 animals", "rests on 12 pairs of frames, confidence 0.40", "Nearest: calm words",
        "0:40 calm words the model was shown nothing of this span",
        "Free: lower", "headline 0.25", "The sharp picture that the model was shown, at 0:59.9", "to which the boxes refer",
        "256 \N{MULTIPLICATION SIGN} 192 pixels, one of them at 640 \N{MULTIPLICATION SIGN} 480;",
        "unsure calm words calm words door, confidence 0.80, not calibrated; yes at first, no at a second look",
        "yes calm words calm words car", "no calm words dog, confidence 0.70, not calibrated",
    ):  # fmt: skip
        assert words in said, words


def test_where_no_object_was_named_no_boxes_are_spoken_of() -> None:
    said = Document(page(view("calm words", answer("spatial", "calm words", objects=(), relations=())))).said
    assert "No object was named." in said
    assert "boxes refer" not in said


def test_a_box_that_cannot_be_says_why() -> None:
    objects = [
        seen("dog", 0.1, 0.1, 0.3, 0.5).model_copy(update={"valid": False, "problem": problem})
        for problem in ("degenerate", "duplicate", "out_of_range")
    ]
    said = Document(page(view("x", answer("spatial", "x", objects=tuple(objects))))).said
    for words in (
        "a box without an area, not drawn",
        "the same box again, not drawn",
        "a box beyond the picture, not drawn",
    ):
        assert words in said


def test_the_warning_stands_before_the_words() -> None:
    said = Document(page(view("words", note="random weights"))).said
    assert said.index("random weights") < said.index("words", said.index("0:00"))
    assert "Do not rely" not in Document(page(view("words", note=""))).said


def test_a_question_heads_its_page() -> None:
    document = Document(page(view("x", answer("ask", "It is a parcel."))))
    assert [text for where, text in document.texts if where == "h1"] == ["It is a parcel."]
    assert "The clip" in document.said
    assert "event" not in document.said


def test_that_nothing_happened_is_an_answer() -> None:
    quiet = answer("summary", "Nothing happens.", events=())
    assert "The model named no event." in Document(page(view("x", quiet))).said


def test_a_question_for_places_heads_its_page_and_is_answered_once() -> None:
    spatial = answer("spatial", "A dog by a tree")
    document = Document(page(replace(view("x", spatial), asked=(Asked("spatial", "Where is the dog?"),))))
    assert [text for where, text in document.texts if where == "h1"] == ["A dog by a tree"]
    words = [text for where, text in document.texts if where == "p"]
    assert words.count("Where is the dog?") == 1
    assert words.count("A dog by a tree") == 0


def test_a_page_without_pictures_still_says_everything() -> None:
    bare = View(report=CALM.report)
    document = Document(page(bare))
    check_safe(document)
    assert document.all("img") == []
    assert "calm words" in document.said


def test_every_picture_has_words_and_every_section_a_heading() -> None:
    document = Document(page(CALM))
    assert all(image["alt"] for image in document.all("img"))
    assert document.all("html") == [{"lang": "en"}]
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {section["aria-labelledby"] for section in document.all("section")} <= set(ids)
    levels = [int(tag[1]) for tag, _ in document.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))
    assert all(
        svg.get("aria-hidden") == "true" for svg in document.all("svg")
    )  # the same stands beside it in words


def test_the_model_s_words_are_in_the_operator_s_language_and_the_page_s_own_in_english() -> None:
    document = Document(page(replace(CALM, language="German")))
    spoken = {
        attributes.get("class", name) for name, attributes in document.tags if attributes.get("lang") == "de"
    }
    assert spoken == {"title", "h1", "lead", "what", "td", "end", "link", "b", "seen"}
    assert [attributes["lang"] for attributes in document.all("html")] == ["en"]
    told = Relation(subject="a", relation="behind", object="b")
    found = (told, told.model_copy(update={"source": "boxes"}))
    german = replace(view("calm words", answer("spatial", "calm words", relations=found)), language="German")
    links = [each.get("lang") for _, each in Document(page(german)).tags if each.get("class") == "link"]
    assert links == ["de", None]  # what was worked out is English
    plain = Document(page(replace(CALM, language="Klingon")))
    assert [name for name, attributes in plain.tags if "lang" in attributes] == ["html"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("German", "de"),
        ("german", "de"),
        ("Chinese (Simplified)", "zh-Hans"),
        ("Portuguese (Brazil)", "pt"),
        ("", ""),
    ],
)
def test_a_language_is_known_by_its_english_name(name: str, code: str) -> None:
    assert language.code(name) == code


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_all_words_stand_out_from_their_ground(scheme: int) -> None:
    colours = palettes()[scheme]
    for ink in ("ink", "soft", "accent", "flag"):
        for ground in ("paper", "card"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["warn-ink"], colours["warn"]) >= 4.5
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5


def palettes() -> list[dict[str, str]]:
    """Return the colours of the three schemes; a scheme that leaves one out has the light one's."""
    found: list[dict[str, str]] = []
    for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL):
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", block))
        found.append((found[0] if found else {}) | colours)
    assert len(found) == 3
    return found


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours: WCAG 2.2, relative luminance and contrast ratio."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear: list[Any] = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
