"""A recipe: in which precision each class of weights is stored, and what is turned before it is rounded."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import edge
from edge.errors import ConfigError

WeightClass = Literal["mlp", "attention", "deltanet", "embedding", "head", "vision"]
Bits = Literal[4, 8, 32]

WEIGHT_CLASSES: Final[tuple[WeightClass, ...]] = get_args(WeightClass)
PREFILLED: Final[tuple[WeightClass, ...]] = ("mlp", "attention", "deltanet")  # what a second copy holds
ROW: Final = 0  # as a block: the whole row
_TABLES: Final = ("embedding", "head")  # looked up by rows of blocks
_BLOCKS: Final = (16, 32, 64, 128, 256)  # what MatMulNBits and GatherBlockQuantized both take


@dataclass(frozen=True, slots=True)
class Format:
    """How one matrix is stored; ``block`` and ``zero_points`` mean nothing at 32 bits (float32).

    Eight bits in a block of ``ROW`` have one scale an output, and their inputs one a token: plain int8 products.
    """

    bits: Bits
    block: int = ROW
    zero_points: bool = False

    @property
    def quantised(self) -> bool:
        """Whether it is anything but float32."""
        return self.bits != 32

    @property
    def by_row(self) -> bool:
        """Whether it has one scale an output."""
        return self.quantised and self.block == ROW

    def __str__(self) -> str:
        if not self.quantised:
            return "float32"
        if self.by_row:
            return f"int{self.bits} per row"
        return f"int{self.bits} block {self.block}{' zero points' if self.zero_points else ''}"

    def fitted(self, columns: int) -> Format:
        """Return the format with the largest block, up to its own, that divides a row; its own where none does."""
        if self.by_row:
            return self
        fits = [block for block in _BLOCKS if block <= self.block and columns % block == 0]
        return Format(self.bits, max(fits, default=self.block), self.zero_points)


FLOAT32: Final = Format(32)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named choice of formats.

    Attributes:
        name: Of the recipe.
        formats: Of every class.
        prefill: Format of a second copy of the decoder's layers that is only used for prefill; None for one copy.
        rotation: Channels that are turned together before inputs are rounded by rows, a power of two; 0: none are.
        cache_bits: Of attention's keys and values; 32 is float32.
        rough_head: Format of a second copy of a tied head, which finds the rows that are worth reading exactly; None: the
            embedding itself is the head.
    """

    name: str
    formats: dict[WeightClass, Format]
    prefill: Format | None = None
    rotation: int = 0
    cache_bits: Literal[8, 32] = 32
    rough_head: Format | None = None

    def for_decoder(self) -> Recipe:
        """Return what the graph is built of that decodes (and prefills, where there is one copy)."""
        return replace(self, prefill=None)

    def for_prefill(self) -> Recipe | None:
        """Return what a second graph is built of, or None."""
        if self.prefill is None:
            return None
        return replace(self, formats=self.formats | dict.fromkeys(PREFILLED, self.prefill), prefill=None)

    def for_rough_head(self) -> Recipe | None:
        """Return what a second, rough copy of the head is stored by, or None."""
        if self.rough_head is None:
            return None
        return replace(self, formats=self.formats | {"head": self.rough_head})


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    bits: Bits
    block: Literal[16, 32, 64, 128, 256, "row"] | None = None
    zero_points: bool | None = None

    @model_validator(mode="after")
    def _belong_together(self) -> _Section:
        quantised = self.bits != 32
        if quantised != (self.block is not None) or quantised != (self.zero_points is not None):
            raise ValueError("block and zero_points are needed at 4 and 8 bits, and stand nowhere else")
        if self.block == "row" and (self.bits != 8 or self.zero_points):
            raise ValueError("rows have 8 bits and no zero points")
        return self

    def format(self) -> Format:
        return Format(
            self.bits, ROW if self.block in {None, "row"} else int(self.block), bool(self.zero_points)
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,30}$")]
    mlp: _Section
    attention: _Section
    deltanet: _Section
    embedding: _Section
    head: _Section
    vision: _Section
    prefill: _Section | None = None
    rough_head: _Section | None = None
    rotation: Literal[0, 16, 32, 64, 128, 256] = 0
    cache_bits: Literal[8, 32] = 32

    @model_validator(mode="after")
    def _tables_have_blocks(self) -> _File:
        tables = [getattr(self, kind) for kind in (*_TABLES, "rough_head")]
        if any(table is not None and table.block == "row" for table in tables):
            raise ValueError("embedding and head need blocks")
        return self


def recipes_directory() -> Path:
    """Return where the recipes of this installation lie: in the package, or beside it in a checkout."""
    package = Path(edge.__file__).parent
    installed = package / "share" / "configs" / "recipes"
    return installed if installed.is_dir() else package.parent / "configs" / "recipes"


def known_recipes() -> tuple[str, ...]:
    """List the names that `load_recipe` knows."""
    return tuple(sorted(path.stem for path in recipes_directory().glob("*.toml")))


def load_recipe(name: str) -> Recipe:
    """Read a recipe by its name, or from a path that ends in ``.toml``.

    Raises:
        ConfigError: There is no such recipe, or a key or value in it is wrong.
    """
    path = Path(name) if name.endswith(".toml") else recipes_directory() / f"{name}.toml"
    if not name.endswith(".toml") and name not in known_recipes():
        raise ConfigError(
            f"there is no recipe {name!r}",
            next_step=f"Known are {', '.join(known_recipes())}; or give the path of a .toml file.",
        )
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        read = _File.model_validate(found)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ConfigError(
            f"recipe {path} is wrong", evidence=lines[:5], next_step="Compare it with int4.toml."
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"recipe {path} cannot be read", evidence=[str(error)]) from error
    formats: dict[WeightClass, Format] = {kind: getattr(read, kind).format() for kind in WEIGHT_CLASSES}
    second = None if read.prefill is None else read.prefill.format()
    rough = None if read.rough_head is None else read.rough_head.format()
    return Recipe(read.name, formats, second, read.rotation, read.cache_bits, rough)
