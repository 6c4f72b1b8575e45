"""Curves of a score against the share of pairs kept, drawn as SVG: readable without colour, on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 44, 52
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the share
DASHES = ("", "6 4", "2 3")
COLOURS = ("#1b66c9", "#c2410c", "#4d7c0f")


@dataclass(frozen=True, slots=True)
class Point:
    """A share of pairs, a score, and the interval of the score."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Points in the order of their share, under a name."""

    name: str
    points: tuple[Point, ...]


def draw(curves: Sequence[Curve], *, title: str) -> str:
    """Return the curves as an SVG picture; the share on a logarithmic axis, the score from 0 to 1."""
    least = min(point.x for each in curves for point in each.points)
    begin = math.log(min(0.02, least))

    def across(share: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(share) - begin) / -begin

    def down(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"',
        f' font-family="sans-serif" font-size="13" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="15" fill="#111111">{escape(title)}</text>',
    ]
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = down(value)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#d4d4d4"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#444444">{value:g}</text>')
    for share in TICKS:
        if math.log(share) >= begin - 1e-9:
            x = across(share)
            out.append(f'<path d="M{x:.1f} {down(0):.1f}v5" stroke="#444444"/>')
            label = f"{100 * share:g} %"
            out.append(
                f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle" fill="#444444">{label}</text>'
            )
    out.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle" fill="#444444">'
        "pairs kept, logarithmic</text>"
    )
    for place, each in enumerate(curves):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
        there = " ".join(f"{across(p.x):.1f},{down(p.high):.1f}" for p in each.points)
        back = " ".join(f"{across(p.x):.1f},{down(p.low):.1f}" for p in reversed(each.points))
        line = " ".join(f"{across(p.x):.1f},{down(p.y):.1f}" for p in each.points)
        out.append(f'<polygon points="{there} {back}" fill="{colour}" opacity="0.15"/>')
        out.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        out += [
            f'<circle cx="{across(p.x):.1f}" cy="{down(p.y):.1f}" r="3" fill="{colour}"/>'
            for p in each.points
        ]
        x = WIDTH - RIGHT - 90 * (len(curves) - place)
        out.append(
            f'<path d="M{x} 34h26" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
            f'<text x="{x + 31}" y="38" fill="#111111">{escape(each.name)}</text>'
        )
    return "\n".join([*out, "</svg>"]) + "\n"
