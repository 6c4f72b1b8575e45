"""Patterns of an asker's schema: what is understood means the same afterwards, and nothing that explodes is taken."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.answer import pattern
from edge.answer.pattern import PatternError, read


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("^$", "^$"),
        ("^ab$", "^[a][b]$"),
        (r"^\d{3}$", "^[0-9]{3,3}$"),
        (r"^[A-Z]{1,3} ?\d{1,4}$", "^[A-Z]{1,3}[ ]{0,1}[0-9]{1,4}$"),
        (r"^\$\^\.[\]\-x-]$", r"^[\$][\^][\.][\-\]x]$"),
        (r"^a\\$", r"^[a][\\]$"),
        ("^.{0,5}$", r"^[^\x00-\x1f\x7f]{0,5}$"),
        ("^x{0}y$", "^[y]$"),
    ],
)
def test_what_is_understood_is_written_anew(given: str, understood: str) -> None:
    assert pattern.text(read(given)) == understood


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("a", "begin with"),
        ("^a", "begin with"),
        (r"^a\$", "begin with"),
        (r"^a\\\$", "begin with"),
        ("^a*$", "no end"),
        ("^a+$", "no end"),
        ("^a{2,}$", "once"),
        ("^a{1}{2}$", "once"),
        ("^a??$", "once"),
        ("^(a)$", "groups"),
        ("^a|b$", "groups"),
        ("^[^a]$", "what is in it"),
        ("^[a$", "not closed"),
        ("^[]$", "empty"),
        ("^[b-a]$", "begins after"),
        (r"^\bx$", "backslash"),
        (r"^\p{L}$", "backslash"),
        ("^a{3,2}$", "above its end"),
        ("^a{601}$", "more than 600"),
        ("^{3}$", "not understood"),
        ("^[a-z]{0,5}[0-9a]{1,2}$", "varying"),
        ("^a?b?a$", "varying"),
        ("^[ab]{0,20}a[ab]{20}$", "varying"),
        ("^" + "a" * 300 + "$", "200 characters"),
        ("^\x85$", "control"),
    ],
)
def test_what_could_explode_or_be_misread_is_refused(given: str, why: str) -> None:
    with pytest.raises(PatternError, match=why):
        read(given)


ITEM = st.builds(
    "{}{}".format,
    st.sampled_from(["a", "[a-f]", r"\d", "[x-z0]", r"\.", "-", "ä", r"[\]\\^]", ".", " "]),
    st.sampled_from(["", "", "?", "{2}", "{1,3}", "{0,2}"]),
)


@given(st.lists(ITEM, max_size=5), st.data())
@settings(deadline=None)
def test_what_is_understood_means_what_was_given(items: list[str], data: st.DataObject) -> None:
    given = f"^{''.join(items)}$"
    try:
        understood = pattern.text(read(given))
    except PatternError:
        return
    written = data.draw(st.from_regex(understood, fullmatch=True))
    assert re.fullmatch(given, written.replace("\n", ""))
    tried = data.draw(st.text("abfxz09.-] ä", max_size=6))
    assert bool(re.fullmatch(given, tried)) == bool(re.fullmatch(understood, tried))
