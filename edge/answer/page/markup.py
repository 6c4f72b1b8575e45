"""Markup that cannot be broken out of: a text becomes text, an attribute an attribute, whatever it holds.

A plain ``str`` is always escaped; only `Html`, which `tag` alone makes, is taken as it is.
"""

from __future__ import annotations

import html

from edge.answer.text import plain

Value = str | int | float | None
"""Of an attribute; None leaves it out."""

_VOID = frozenset({"br", "hr", "img", "link", "meta"})


class Html(str):
    """Finished markup."""

    __slots__ = ()


def text(raw: str) -> Html:
    """Return a text as markup, without control characters and without those that turn the direction of writing."""
    return Html(html.escape(plain(raw)))


def tag(name: str, /, *children: str, **attributes: Value) -> Html:
    """Return one element.

    Args:
        name: Of the element, in HTML or SVG; a literal.
        *children: `Html` as it is, any other text escaped.
        **attributes: By their names; ``_`` stands for ``-``, and one at the end is dropped (``class_``).
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(plain(_value(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str) -> Html:
    """Return elements and texts one after the other."""
    return Html("".join(child if isinstance(child, Html) else text(child) for child in children))


def percent(share: float) -> str:
    """Return a share of 0..1 as a length in SVG, which then follows the page's width while its text does not."""
    return f"{round(100 * share, 2):g}%"


def _value(value: str | float) -> str:
    return f"{round(value, 2):g}" if isinstance(value, float) else str(value)
