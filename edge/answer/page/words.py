"""Times, numbers and places as a page writes them."""

from __future__ import annotations

from edge.messages import Box

DASH = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
_EXACT_S = 10.0  # shorter spans are told to the tenth
_ROWS = ("upper", "", "lower")
_COLUMNS = ("left", "", "right")


def clock(at_s: float, *, exact: bool = False) -> str:
    """Return a moment as players write it: minutes and the seconds begun; with tenths where that is wanted.

    Args:
        at_s: Seconds.
        exact: Tenths too, where there are any.
    """
    tenths = round(at_s * 10)
    minutes, rest = divmod(tenths, 600)
    seconds, tenth = divmod(rest, 10)
    return f"{minutes}:{seconds:02d}" + (f".{tenth}" if exact and tenth else "")


def span(start_s: float, end_s: float) -> str:
    """Return a span of the clip; a moment where both are the same."""
    exact = abs(end_s - start_s) < _EXACT_S
    start, end = clock(start_s, exact=exact), clock(end_s, exact=exact)
    return start if start == end else f"{start} {DASH} {end}"


def size(width: int, height: int) -> str:
    """Return a picture's size in pixels."""
    return f"{width} {TIMES} {height}"


def plural(count: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def place(box: Box) -> str:
    """Return where a box lies, in words."""
    row, column = _ROWS[_third((box.y1 + box.y2) / 2)], _COLUMNS[_third((box.x1 + box.x2) / 2)]
    return f"{row} {column}".strip() if row or column else "middle"


def _third(share: float) -> int:
    return min(2, int(share * 3))
