"""Typed look-ups in a checkpoint's JSON; what is missing or of the wrong kind is a `CheckpointError` that names it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import CheckpointError

COMPARE = "Compare it with the file of the original release; it may be damaged or of another model."


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        CheckpointError: The file is missing, unreadable or not a JSON object.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(
            f"checkpoint {path.parent} has no {path.name}",
            next_step="SOURCE is a directory with config.json, *.safetensors and tokenizer.json, or a hub id.",
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON", evidence=[str(error)], next_step="Copy or download it again."
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no JSON object", next_step=COMPARE)
    return found


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object and its place, for messages such as ``config.json: text_config.hidden_size``."""

    values: Mapping[str, Any]
    where: str

    def has(self, key: str) -> bool:
        """Tell whether the key is there and not null."""
        return self.values.get(key) is not None

    def part(self, key: str) -> Fields:
        """Return a nested object."""
        found = self.values.get(key)
        if not isinstance(found, dict):
            raise self.wrong(key, "an object")
        return Fields(found, f"{self.where}{key}.")

    def count(self, key: str) -> int:
        """Return a positive integer."""
        found = self.values.get(key)
        if not isinstance(found, int) or isinstance(found, bool) or found < 1:
            raise self.wrong(key, "a positive integer")
        return found

    def index(self, key: str) -> int:
        """Return an integer from 0."""
        found = self.values.get(key)
        if not isinstance(found, int) or isinstance(found, bool) or found < 0:
            raise self.wrong(key, "an integer from 0")
        return found

    def number(self, key: str, default: float | None = None) -> float:
        """Return a positive number; the default stands for a missing key."""
        found = self.values.get(key, default)
        if not isinstance(found, int | float) or isinstance(found, bool) or not found > 0:
            raise self.wrong(key, "a positive number")
        return float(found)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean; the default stands for a missing key."""
        found = self.values.get(key, default)
        if not isinstance(found, bool):
            raise self.wrong(key, "true or false")
        return found

    def text(self, key: str) -> str:
        """Return a string."""
        found = self.values.get(key)
        if not isinstance(found, str):
            raise self.wrong(key, "a string")
        return found

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        """Return a list of numbers of a known length."""
        found = self.values.get(key)
        if (
            not isinstance(found, list)
            or len(found) != length
            or not all(isinstance(item, int | float) and not isinstance(item, bool) for item in found)
        ):
            raise self.wrong(key, f"a list of {length} numbers")
        return tuple(float(item) for item in found)

    def wrong(self, key: str, expected: str) -> CheckpointError:
        """Return the error for a key that is not what it should be."""
        found = json.dumps(self.values[key])[:200] if key in self.values else "nothing"
        return CheckpointError(
            f"{self.where}{key} is not {expected}", evidence=[f"found {found}"], next_step=COMPARE
        )

    def require(self, key: str, expected: object, default: object = None) -> None:
        """Refuse a variant of the architecture that the graphs do not cover."""
        found = self.values.get(key, default)
        if found != expected:
            raise CheckpointError(
                f"{self.where}{key} is {found!r}; this converter knows only {expected!r}",
                next_step="Convert a checkpoint of Qwen3.5 as released, for example Qwen/Qwen3.5-0.8B.",
            )
