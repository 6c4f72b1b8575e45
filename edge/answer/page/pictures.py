"""Pictures inside the page, each within its share of the bytes."""

from __future__ import annotations

import base64

from edge.answer.page.markup import Html, tag
from edge.answer.picture import jpeg
from edge.records import Still

_LONGEST_PX = 960


def image(shot: Still, alt: str, *, max_bytes: int) -> Html:
    """Return a picture as an element that holds its own bytes."""
    height, width = shot.rgb.shape[:2]
    data = base64.b64encode(jpeg(shot.rgb, longest_px=_LONGEST_PX, max_bytes=max_bytes)).decode("ascii")
    return tag("img", src=f"data:image/jpeg;base64,{data}", alt=alt, width=width, height=height)
