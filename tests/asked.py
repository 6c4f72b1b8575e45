"""Schemas as askers give them: such as are taken as a rule, and such as never may be."""

from __future__ import annotations

import random
from typing import Any

NAMES = (
    "parcel",
    "colour",
    "n",
    "where it is",
    "größe",
    'a"b',
    "x\\y",
    "}",
    "0",
    "cars",
    "is_open",
    "\u200d",
)
PATTERNS = (
    "^[A-Z]{1,3}-[0-9]{1,4}$",
    "^[0-2][0-9]:[0-5][0-9]$",
    r"^\d{3}$",
    r"^#[0-9a-f]{6}$",
    "^.{0,30}$",
    r"^[A-Z]\w{0,10}\.?$",
    '^["\\\\a-c]{2,5}$',
    "^(a|b)$",
    "^a+$",
)
KEYS = (
    "type",
    "properties",
    "items",
    "enum",
    "const",
    "minimum",
    "maxItems",
    "required",
    "$ref",
    "pattern",
    "anyOf",
)


def usual(rng: random.Random, depth: int = 3) -> dict[str, Any]:
    """Return a schema of an object, of the keywords that are taken; a few ask for too much and are refused."""
    names = rng.sample(NAMES, rng.randint(1, 4))
    schema: dict[str, Any] = {"properties": {name: _part(rng, depth - 1) for name in names}}
    if rng.random() < 0.8:
        schema["type"] = "object"
    if rng.random() < 0.7:
        schema["required"] = rng.sample(names, rng.randint(0, len(names)))
    if rng.random() < 0.3:
        schema["additionalProperties"] = rng.random() < 0.5
    if rng.random() < 0.2:
        schema |= {
            "title": "T",
            "description": "what\nis asked \u202e",
            "$schema": "https://json-schema.org/draft/2020-12/schema",
        }
    return schema


def _part(rng: random.Random, depth: int) -> dict[str, Any]:
    kinds = (
        "string",
        "pattern",
        "integer",
        "number",
        "boolean",
        "enum",
        "const",
        "null",
        "nullable",
        "array",
        "object",
    )
    match rng.choice(kinds if depth else kinds[:9]):
        case "string":
            least = rng.choice((None, 0, 1, 5))
            most = rng.choice((None, 5, 40, 9999))
            return {"type": "string", **_said(minLength=least, maxLength=most)}
        case "pattern":
            return {"type": "string", "pattern": rng.choice(PATTERNS)}
        case "integer":
            low, high = sorted(rng.choice((-7, 0, 3, 99, 12345678)) for _ in range(2))
            keys = rng.choice((("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")))
            limits = _said(**dict(zip(keys, (low, high), strict=True)))
            return {"type": "integer", **{key: limits[key] for key in rng.sample(keys, rng.randint(0, 2))}}
        case "number":
            small, large = sorted(rng.choice((-2.5, 0, 0.1, 0.007, 1 / 3, 1e9, 99)) for _ in range(2))
            keys = rng.choice((("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")))
            return {"type": "number", **_said(**dict(zip(keys, (small, large), strict=True)))}
        case "enum":
            return {
                "enum": rng.sample(
                    ("red", "dark blue", 'q"', "\\", "ä", 1, 0, -3, True, False, None), rng.randint(1, 5)
                )
            }
        case "const":
            return {"const": rng.choice(("x", 7, None, False))}
        case "nullable":
            part = _part(rng, 0)
            if rng.random() < 0.5 and isinstance(part.get("type"), str) and part["type"] != "null":
                return {**part, "type": [part["type"], "null"]}
            return {"anyOf": [part, {"type": "null"}]}
        case "array":
            limits = _said(minItems=rng.choice((None, 0, 2)), maxItems=rng.choice((None, 2, 3, 1000)))
            return {"type": "array", "items": _part(rng, depth - 1), **limits}
        case "object":
            return usual(rng, depth)
        case kind:
            return {"type": kind}


def _said(**limits: Any) -> dict[str, Any]:
    return {key: value for key, value in limits.items() if value is not None}


def hostile(rng: random.Random) -> Any:
    """Return what must never be taken: too large, too deep, endless, from elsewhere, costly, or no schema at all."""
    wrong: Any = rng.choice(
        (
            {
                "$ref": rng.choice(
                    ("http://127.0.0.1/x", "file:///etc/passwd", "#", "#/properties/a", "other.json#/$defs/a")
                )
            },
            {"$ref": "#/$defs/again"},
            {"$ref": "#/$defs/twice0"},
            {"type": "string", "pattern": rng.choice(_COSTLY)},
            {"type": "string", "minLength": rng.choice((601, 10**9, 10**300))},
            {"type": "array", "items": {"type": "integer"}, "minItems": rng.choice((33, 10**9))},
            {"type": "array", "items": {"type": "string", "minLength": 500}, "minItems": 30},
            {
                "type": "integer",
                rng.choice(("minimum", "maximum")): rng.choice((10**400, -(10**16), 1e300, float("nan"))),
            },
            {"type": "integer", "multipleOf": 7},
            {"type": "number", "minimum": 1, "maximum": 0},
            {"type": "object", "patternProperties": {"^a": {"type": "string"}}},
            {"type": "object", "additionalProperties": {"type": "string"}},
            {
                rng.choice(("allOf", "oneOf", "anyOf", "prefixItems")): [
                    {"type": "string"},
                    {"type": "integer"},
                ]
            },
            {rng.choice(("not", "if", "contains", "unevaluatedProperties")): {"type": "string"}},
            {"enum": [f"v{number}" for number in range(rng.choice((129, 5000)))]},
            {"enum": rng.choice(([], [[1]], [{"a": 1}], ["x" * 101], ["\u0000"], ["\ud800"], [1.5], 5))},
            {"type": rng.choice(("text", "", None, 5, [], ["string", "integer"], "STRING"))},
            {"properties": {rng.choice(("x" * 65, "\u001b[2J", "\ud800", "")): {"type": "string"}}},
            {"properties": {f"p{number}": {"type": "boolean"} for number in range(200)}},
            {"properties": {"a": {"type": "string"}}, "required": rng.choice((["b"], "a", [1], [["a"]]))},
            nested(rng.choice((9, 40, 300)), rng.choice(("properties", "items", "anyOf"))),
            rng.choice((True, False, None, 0, "string", [], [{}], {})),
            _noise(rng, 3),
        )
    )
    schema: Any = {
        "type": "object",
        "properties": {"before": {"type": "string"}, "wrong": wrong},
        "$defs": {
            "again": {"properties": {"more": {"$ref": "#/$defs/again"}}},
            **{
                f"twice{n}": {"properties": {side: {"$ref": f"#/$defs/twice{n + 1}"} for side in "ab"}}
                for n in range(30)
            },
            "twice30": {"type": "string"},
        },
    }
    return schema if rng.random() < 0.9 else rng.choice((wrong, [schema], {"type": "array", "items": schema}))


_COSTLY = (
    "^(a+)+$",
    "^(a|aa)*$",
    "^([a-z]{0,30}){30}$",
    "(x",
    "^[ab]{0,30}a[ab]{30}$",
    "^a{0,600}a{0,600}$",
    "^.{0,100}x$",
    "^" + "a?" * 60 + "a" * 60 + "$",
    r"^(?=a)\1(?<!b)$",
    r"^\p{L}{1,9}$",
    "^[^a]{1,9}$",
    "^[a-z&&[^b]]$",
    "^x{9999}$",
    "^[z-a]$",
    "^[]$",
    "^\\",
    "^a\\$",
    "a",
    "^a$|b$",
    "^\u0000$",
    "^\ud800$",
)


def nested(depth: int, by: str) -> Any:
    """Return a schema within a schema within a schema."""
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {
            by: {"a": schema}
            if by == "properties"
            else [schema, {"type": "null"}]
            if by == "anyOf"
            else schema
        }
    return schema


def _noise(rng: random.Random, depth: int) -> Any:
    """Return a schema's keywords with anything in them, and one that nobody knows."""
    values: tuple[Any, ...] = (None, True, -1, 1e308, "#", "^a$", [], {}, ["a"], {"a": True})
    found = {
        rng.choice(KEYS): _noise(rng, depth - 1) if depth and rng.random() < 0.4 else rng.choice(values)
        for _ in range(3)
    }
    return {**found, "surely-unknown": 1}
