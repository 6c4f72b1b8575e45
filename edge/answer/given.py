"""A JSON Schema that an asker gives for the answer: checked as data from a stranger, and narrowed to what always ends.

What comes out is valid under what came in, and holds only what the grammar can follow in bounded time and memory: closed
objects, lists and texts of limited length, whole numbers and decimals within limits, and texts of a simple pattern. A
keyword that narrows the answer and is not known is refused, never passed over: an asker who gets an answer can rely on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from edge.answer import pattern
from edge.errors import SchemaError

BYTES_MAX = 8192
DEPTH_MAX = 8  # objects, lists and choices within one another
NODES_MAX = 128  # schemas within the schema, each reference counted anew
VALUES_MAX = 128  # of all enums together
VALUE_CHARS = 100
NAME_CHARS = 64
STRING_CHARS = 200  # where the schema says nothing
STRING_CHARS_MAX = 600
ITEMS = 8  # where the schema says nothing
ITEMS_MAX = 32
NUMBER = 999_999  # where the schema says nothing
NUMBER_MAX = 10**15
DECIMALS = 3
END_BYTES_MAX = 512  # that an answer may take to its end: all names, and the least that each part must hold
FORM_BYTES = 1000  # of the words for the model
NOTE_CHARS = 80  # of each description among them

_NOTES = frozenset({
    "$schema", "$id", "$comment", "title", "description", "examples", "default", "deprecated", "readOnly", "writeOnly",
})  # fmt: skip
_KEYS: dict[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "boolean": frozenset(),
    "null": frozenset(),
}
_KINDS = {"string": str, "integer": int, "boolean": bool, "null": type(None)}
_DEFINITIONS = frozenset({"$defs", "definitions"})
_TYPED_BY = {"properties": "object", "items": "array"}
_EVERYWHERE = frozenset({"type", "enum", "const", "anyOf", "$ref", *_DEFINITIONS})
KEYWORDS = tuple(sorted(_EVERYWHERE.union(*_KEYS.values())))
"""What a schema may hold, beside notes for people."""

_KNOWN = frozenset({
    "allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "contains", "$dynamicRef",
    "prefixItems", "uniqueItems", "minContains", "maxContains", "patternProperties", "propertyNames", "format",
    "minProperties", "maxProperties", "unevaluatedItems", "unevaluatedProperties", "multipleOf", "$anchor",
    "contentEncoding", "contentMediaType", "contentSchema", "$recursiveRef", "dependencies", "additionalItems",
    *KEYWORDS,
})  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,32}")
_LOCAL = re.compile(r"#/(\$defs|definitions)/([^/~%]{1,64})")


@dataclass(frozen=True, slots=True)
class Given:
    """A schema that is taken.

    Attributes:
        grammar: What the model decodes under.
        form: The same in words, for the model.
    """

    grammar: dict[str, Any]
    form: str

    @property
    def text(self) -> str:
        """The grammar as compact JSON."""
        return json.dumps(self.grammar, separators=(",", ":"))


def read_schema(text: bytes) -> Given:
    """Take a schema as text in UTF-8.

    Raises:
        SchemaError: It is no JSON, or not what `take` takes.
    """
    if len(text) > BYTES_MAX:
        raise _refused("", f"it is longer than {BYTES_MAX} bytes")
    try:
        schema = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise _refused("", f"it is no JSON that can be read{where}") from error
    return take(schema)


def take(schema: object) -> Given:
    """Check a schema, and narrow it.

    Args:
        schema: As JSON was read; anything at all.

    Raises:
        SchemaError: It is not taken; the evidence says where and why.
    """
    node = _Narrowing(schema).root()
    if node.end_bytes > END_BYTES_MAX:
        raise _refused(
            "",
            f"an answer that is cut short may take {node.end_bytes} bytes to its end, and {END_BYTES_MAX} are allowed",
        )
    words = node.words.encode()
    if len(words) > FORM_BYTES:  # the grammar holds the rest anyway
        words = words[: FORM_BYTES - 4] + b" ..."
    return Given(node.grammar, f"Reply in JSON: {words.decode(errors='ignore')}.")


@dataclass(frozen=True, slots=True)
class _Node:
    """A part of the schema that is understood: for the grammar, in words, and the most bytes that its end may take.

    The end counts every property and the longest value of an enum, since the way to it is found byte by byte.
    """

    grammar: dict[str, Any]
    words: str
    end_bytes: int


_NULL = _Node({"type": "null"}, "null", 4)
_BOOLEAN = _Node({"type": "boolean"}, "true or false", 5)


class _Narrowing:
    """One schema on its way through."""

    def __init__(self, schema: object) -> None:
        self._root = schema
        self._count = 0
        self._valued = 0

    def root(self) -> _Node:
        """Return the whole, which is an object."""
        node = self._node(self._root, "", depth=0, through=())
        if node.grammar.get("type") != "object":
            raise _refused("", "the outermost must be an object")
        return node

    def _node(self, schema: object, at: str, *, depth: int, through: tuple[str, ...]) -> _Node:
        self._count += 1
        if self._count > NODES_MAX:
            raise _refused(at, f"it has more than {NODES_MAX} parts, references counted anew")
        if depth > DEPTH_MAX:
            raise _refused(at, f"it is nested more than {DEPTH_MAX} deep")
        if not isinstance(schema, dict):
            raise _refused(at, "it is no object")
        said = {key: value for key, value in schema.items() if key not in _NOTES}
        if not at:
            said = {key: value for key, value in said.items() if key not in _DEFINITIONS}
        for key in said:
            if key not in KEYWORDS or key in _DEFINITIONS:
                raise _refused(
                    at, f"{key} is not supported here" if key in _KNOWN else "it holds an unknown keyword"
                )
        if "$ref" in said:
            node = self._referred(said, at, depth=depth, through=through)
        elif "anyOf" in said:
            node = self._or_null(said, at, depth=depth, through=through)
        elif "enum" in said or "const" in said:
            node = _values(said, at)
            self._valued += len(node.grammar["enum"])
            if self._valued > VALUES_MAX:
                raise _refused(
                    at, f"all enums together have more than {VALUES_MAX} values, references counted anew"
                )
        else:
            node = self._typed(said, at, depth=depth, through=through)
        return _described(node, schema.get("description"))

    def _typed(self, said: Mapping[str, Any], at: str, *, depth: int, through: tuple[str, ...]) -> _Node:
        kinds = said.get("type", next((kind for key, kind in _TYPED_BY.items() if key in said), None))
        if isinstance(kinds, list) and len(kinds) == 2 and "null" in kinds:
            rest = [kind for kind in kinds if kind != "null"]
            return _nullable(
                self._typed({**said, "type": rest[0] if rest else "null"}, at, depth=depth, through=through)
            )
        if not isinstance(kinds, str) or kinds not in _KEYS:
            raise _refused(at, f"type must be one of {', '.join(_KEYS)}, or one of them and null")
        for key in said:
            if key not in _KEYS[kinds] and key != "type":
                raise _refused(at, f"{key} does not go with the type {kinds}")
        match kinds:
            case "object":
                return self._object(said, at, depth=depth, through=through)
            case "array":
                return self._array(said, at, depth=depth, through=through)
            case "string":
                return _string(said, at)
            case "integer" | "number":
                return _number(said, at)
            case "boolean":
                return _BOOLEAN
            case _:
                return _NULL

    def _referred(self, said: Mapping[str, Any], at: str, *, depth: int, through: tuple[str, ...]) -> _Node:
        found = _LOCAL.fullmatch(said["$ref"]) if isinstance(said["$ref"], str) else None
        if found is None or len(said) > 1:
            raise _refused(
                at, "$ref stands alone and names one of the schema's own $defs, such as #/$defs/box"
            )
        place, name = found.groups()
        own = self._root.get(place) if isinstance(self._root, dict) else None
        if not isinstance(own, dict) or name not in own:
            raise _refused(at, "$ref names nothing in $defs")
        if name in through:
            raise _refused(at, "$ref leads back to itself; an answer must have an end")
        return self._node(own[name], f"{at or '$'} ($ref)", depth=depth, through=(*through, name))

    def _or_null(self, said: Mapping[str, Any], at: str, *, depth: int, through: tuple[str, ...]) -> _Node:
        choices = said["anyOf"]
        rest = (
            [choice for choice in choices if choice != {"type": "null"}] if isinstance(choices, list) else []
        )
        if len(said) > 1 or len(rest) != 1 or len(choices) != 2:
            raise _refused(at, 'anyOf stands alone and allows one schema or {"type": "null"}')
        return _nullable(self._node(rest[0], at or "$", depth=depth + 1, through=through))

    def _object(self, said: Mapping[str, Any], at: str, *, depth: int, through: tuple[str, ...]) -> _Node:
        properties, required = said.get("properties"), said.get("required", [])
        if not isinstance(properties, dict) or not properties:
            raise _refused(at, "an object needs properties")
        if not isinstance(said.get("additionalProperties", False), bool):
            raise _refused(at, "additionalProperties is true or false; in either case none are written")
        if not _texts(required) or not set(required) <= properties.keys():
            raise _refused(at, "required lists names of properties")
        made: dict[str, _Node] = {}
        for number, (name, schema) in enumerate(properties.items(), 1):
            where = ".".join(filter(None, (at, name if _PLAIN.fullmatch(name) else f"#{number}")))
            if not name or len(name) > NAME_CHARS or not pattern.printable(name):
                raise _refused(
                    where,
                    f"a property's name has 1 to {NAME_CHARS} characters, none of them a control character",
                )
            made[name] = self._node(schema, where, depth=depth + 1, through=through)
        grammar = {
            "type": "object",
            "properties": {name: node.grammar for name, node in made.items()},
            "required": [name for name in made if name in required],
            "additionalProperties": False,
        }
        words = ", ".join(
            f"{json.dumps(name, ensure_ascii=False)}: {node.words}" for name, node in made.items()
        )
        end = sum(_quoted(name) + 2 + node.end_bytes for name, node in made.items())
        return _Node(grammar, f"{{{words}}}", 2 + end)

    def _array(self, said: Mapping[str, Any], at: str, *, depth: int, through: tuple[str, ...]) -> _Node:
        if "items" not in said:
            raise _refused(at, "a list needs items")
        least = _count(said, "minItems", at, 0, ITEMS_MAX)
        most = min(_count(said, "maxItems", at, max(ITEMS, least)), ITEMS_MAX)
        if least > most:
            raise _refused(at, "minItems is above maxItems")
        item = self._node(said["items"], f"{at or '$'}[]", depth=depth + 1, through=through)
        grammar = {"type": "array", "items": item.grammar, "minItems": least, "maxItems": most}
        return _Node(grammar, f"[{item.words}, at most {most}]", 2 + least * (item.end_bytes + 1))


def _string(said: Mapping[str, Any], at: str) -> _Node:
    least = _count(said, "minLength", at, 0, STRING_CHARS_MAX)
    most = min(_count(said, "maxLength", at, max(STRING_CHARS, least)), STRING_CHARS_MAX)
    if least > most:
        raise _refused(at, "minLength is above maxLength")
    if "pattern" not in said:
        # No blank in front, and no control characters: see `edge.answer.schema`.
        line = rf"[^\x00-\x20\x7f][^\x00-\x1f\x7f]{{{max(least, 1) - 1},{most - 1}}}"
        regex = "^$" if not most else f"^{line}$" if least else f"^({line})?$"
        words = "text" if "maxLength" not in said else f"text of at most {most} characters"
        return _Node({"type": "string", "pattern": regex}, words, 2 + least)
    if not isinstance(said["pattern"], str):
        raise _refused(at, "pattern is a text")
    try:
        items = pattern.read(said["pattern"])
    except pattern.PatternError as error:
        raise _refused(at, f"pattern: {error}") from error
    short, long = (sum(getattr(item, side) for item in items) for side in ("least", "most"))
    if short < said.get("minLength", 0) or long > said.get("maxLength", long):
        raise _refused(
            at, "pattern allows lengths that minLength and maxLength do not; give counts in the pattern alone"
        )
    return _Node(
        {"type": "string", "pattern": pattern.text(items)},
        f"text of the form {said['pattern']}",
        2 + 4 * long,
    )


def _number(said: Mapping[str, Any], at: str) -> _Node:
    """Narrow a number to limits, and a decimal to multiples of 0.001."""
    whole = said["type"] == "integer"
    step = Decimal(1) if whole else Decimal(1).scaleb(-DECIMALS)
    low, high = (_limit(said, key, at) for key in ("minimum", "maximum"))
    above, below = (_limit(said, key, at) for key in ("exclusiveMinimum", "exclusiveMaximum"))
    lows = [_round(low, step, ROUND_CEILING)] if low is not None else []
    highs = [_round(high, step, ROUND_FLOOR)] if high is not None else []
    lows += [_round(above, step, ROUND_FLOOR) + step] if above is not None else []
    highs += [_round(below, step, ROUND_CEILING) - step] if below is not None else []
    least = max(lows, default=min(Decimal(-NUMBER), min(highs, default=Decimal(0)) - NUMBER))
    most = min(highs, default=max(Decimal(NUMBER), least + NUMBER))
    if least > most:
        what = "whole number" if whole else f"number with {DECIMALS} decimals"
        raise _refused(at, f"no {what} lies between its limits")
    limits: dict[str, Any] = {"minimum": _plain(least), "maximum": _plain(most)}
    grammar = {"type": said["type"], **limits, **({} if whole else {"multipleOf": float(step)})}
    words = "a whole number" if whole else "a number"
    if lows and highs:
        words += f" from {_plain(least)} to {_plain(most)}"
    longest = max(len(str(int(least))), len(str(int(most)))) + 1
    return _Node(grammar, words, longest + (0 if whole else 1 + DECIMALS))


def _values(said: Mapping[str, Any], at: str) -> _Node:
    """Take an enum, or a const as one of one value."""
    values = [said["const"]] if "const" in said else said["enum"]
    if said.keys() - {"enum", "const", "type"} or {"enum", "const"} <= said.keys():
        raise _refused(at, "enum and const stand alone, or with a type")
    if not isinstance(values, list) or not 1 <= len(values) <= VALUES_MAX:
        raise _refused(at, f"enum lists 1 to {VALUES_MAX} values")
    kinds = said.get("type", list(_KINDS))
    allowed = {kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)}
    kept: dict[tuple[str, Any], Any] = {}  # true and 1 are equal in Python
    for value in values:
        kind = next((kind for kind, type_ in _KINDS.items() if type(value) is type_), None)
        short = kind != "string" or (len(value) <= VALUE_CHARS and pattern.printable(value))
        if kind is None or not short or (kind == "integer" and abs(value) > NUMBER_MAX):
            raise _refused(
                at,
                f"the values of enum and const are texts of at most {VALUE_CHARS} characters and no control characters, "
                "whole numbers, true, false and null",
            )
        if kind in allowed or (kind == "integer" and "number" in allowed):
            kept[kind, value] = value
    if not kept:
        raise _refused(at, "no value of enum is of its type")
    shown = [json.dumps(value, ensure_ascii=False) for value in kept.values()]
    words = " or ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
    return _Node({"enum": list(kept.values())}, words, max(len(value.encode()) for value in shown))


def _nullable(node: _Node) -> _Node:
    return _Node({"anyOf": [node.grammar, _NULL.grammar]}, f"{node.words} or null", max(node.end_bytes, 4))


def _described(node: _Node, description: object) -> _Node:
    """Add what the asker says of a part to its words."""
    if not isinstance(description, str) or not (said := " ".join(description.split())):
        return node
    said = "".join(char for char in said[:NOTE_CHARS] if pattern.printable(char))
    return _Node(node.grammar, f"{node.words} ({said})", node.end_bytes)


def _count(said: Mapping[str, Any], key: str, at: str, default: int, most: int | None = None) -> int:
    value = said.get(key, default)
    if type(value) is not int or value < 0:
        raise _refused(at, f"{key} is a whole number from 0 on")
    if most is not None and value > most:
        raise _refused(at, f"{key} is at most {most}")
    return value


def _limit(said: Mapping[str, Any], key: str, at: str) -> Decimal | None:
    if key not in said:
        return None
    value: Any = said[key]
    if type(value) not in (int, float) or not abs(value) <= NUMBER_MAX:  # NaN neither
        raise _refused(at, f"{key} is a number between -{NUMBER_MAX} and {NUMBER_MAX}")
    return Decimal(value) if isinstance(value, int) else Decimal(repr(value))


def _round(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    return value.quantize(step, rounding=rounding)


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _quoted(text: str) -> int:
    """Return the bytes of a text as JSON."""
    return len(json.dumps(text, ensure_ascii=False).encode())


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _refused(at: str, why: str) -> SchemaError:
    return SchemaError(
        "the schema cannot be used for an answer",
        evidence=[f"{at or '$'}: {why}"],
        next_step=f"It may hold {', '.join(KEYWORDS)}, and notes for people.",
    )
