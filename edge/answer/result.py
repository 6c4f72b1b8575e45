"""An object that was written under an asker's schema, as lines for people: where a value stands, and the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WORDS = {True: "yes", False: "no", None: "nothing"}


def lines(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each value with its place, such as ``cars[0].colour``; an empty list or object is a value, too."""
    for name, value in result.items():
        yield from _lines(name, value)


def line(result: Mapping[str, Any]) -> str:
    """Return all of it in one line."""
    return ", ".join(f"{place}: {value}" for place, value in lines(result))


def _lines(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _lines(f"{place}.{name}", inner)
    elif isinstance(value, list) and value:
        for at, inner in enumerate(value):
            yield from _lines(f"{place}[{at}]", inner)
    elif isinstance(value, dict | list):
        yield place, "nothing"
    else:
        yield place, _WORDS[value] if value is None or isinstance(value, bool) else str(value)
