"""The JSON Schema under which the model decodes: the body of `edge.messages`, narrowed to what a grammar can hold.

The result uses only what llguidance 1.9 enforces token by token: objects closed and in a fixed order of properties,
no references, numbers with both bounds (times with at most one decimal), strings as a pattern.
"""

from __future__ import annotations

import math
from typing import Any

from edge.messages import BODIES, CLIP_SECONDS_MAX

# The keywords of a body that survive; titles and descriptions would only make the grammar's text longer.
_KEPT = (
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
)


def model_schema(kind: str, *, seconds: float = CLIP_SECONDS_MAX) -> dict[str, Any]:
    """Return the schema of the model-written part; everything valid under it is a valid body of ``kind``.

    Args:
        kind: A key of `edge.messages.BODIES`.
        seconds: Length of the clip; no time beyond it can be written.
    """
    schema = BODIES[kind].model_json_schema()
    return _narrow(schema, schema.get("$defs", {}), last_s=math.floor(seconds * 10 + 1e-6) / 10)


def _narrow(node: dict[str, Any], definitions: dict[str, Any], *, last_s: float) -> dict[str, Any]:
    if "$ref" in node:
        return _narrow(definitions[node["$ref"].rpartition("/")[2]], definitions, last_s=last_s)
    if "anyOf" in node:  # something that may be left out; it is then no property, not null
        return _narrow(node["anyOf"][0], definitions, last_s=last_s)
    if "enum" in node:
        return {"type": "string", "enum": node["enum"]}
    if node["type"] == "string":
        return {"type": "string", "pattern": _line(node["maxLength"])}
    kept = {key: node[key] for key in _KEPT if key in node}
    if node["type"] == "number":
        return {**kept, "maximum": last_s, "multipleOf": 0.1}
    if node["type"] == "array":
        kept["items"] = _narrow(node["items"], definitions, last_s=last_s)
    if node["type"] == "object":
        kept["properties"] = {
            name: _narrow(value, definitions, last_s=last_s) for name, value in node["properties"].items()
        }
    return kept


def _line(max_chars: int) -> str:
    r"""Return the pattern of one line of text: no control characters, and no blank in front.

    A pattern, not ``maxLength``: llguidance would let the model write ``\u0000``. The excluded range ends where
    llguidance's precomputed slices of the vocabulary end; one that also excludes U+0080..009F makes every mask 40
    times dearer (2 ms instead of 50 us at 248,320 tokens), so `edge.answer.assemble` removes those.
    """
    return rf"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]{{0,{max_chars - 1}}}$"
