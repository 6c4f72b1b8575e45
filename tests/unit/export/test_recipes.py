"""Recipes: those that ship, and what is refused."""

from pathlib import Path

import pytest

from edge.errors import ConfigError
from export.recipes import (
    FLOAT32,
    PREFILLED,
    WEIGHT_CLASSES,
    Format,
    known_recipes,
    load_recipe,
    recipes_directory,
)


def test_the_shipped_recipes_load_under_their_own_names() -> None:
    assert known_recipes() == ("fp32", "int4", "int8", "w8a8", "w8a8-int4")
    assert [load_recipe(name).name for name in known_recipes()] == list(known_recipes())


def test_fp32_quantises_nothing() -> None:
    assert set(load_recipe("fp32").formats.values()) == {FLOAT32}


@pytest.mark.parametrize("name", ["int4", "int8", "w8a8", "w8a8-int4"])
def test_four_bits_always_have_zero_points(name: str) -> None:
    """Without them onnxruntime takes an inexact path on ARM cores that lack i8mm."""
    formats = load_recipe(name).formats
    assert all(form.zero_points for form in formats.values() if form.bits == 4)
    assert all(form.quantised for form in formats.values())


def test_a_format_is_told_in_words() -> None:
    formats = load_recipe("int4").formats
    assert formats.keys() == set(WEIGHT_CLASSES)
    assert (str(formats["mlp"]), str(formats["vision"])) == ("int4 block 32 zero points", "int8 block 128")
    assert str(FLOAT32) == "float32"


def test_a_second_copy_has_the_format_of_the_prefill_section() -> None:
    two = load_recipe("w8a8-int4")
    second = two.for_prefill()
    assert second is not None
    assert str(two.for_decoder().formats["mlp"]) == "int4 block 128 zero points"
    assert {str(second.formats[kind]) for kind in PREFILLED} == {"int8 per row"}
    assert second.formats["vision"] == two.formats["vision"]
    assert load_recipe("w8a8").for_prefill() is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('block = "row"', 'block = "column"'),
        ("bits = 8             # 32", "bits = 4             # 32"),
        ("rotation = 32", "rotation = 33"),
        (
            "[embedding]          # the token embedding, and the head where it is tied\nbits = 8\nblock = 128",
            '[embedding]\nbits = 8\nblock = "row"',
        ),
    ],
)
def test_wrong_rows_are_refused(before: str, after: str, tmp_path: Path) -> None:
    text = (recipes_directory() / "w8a8.toml").read_text()
    assert before in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(ConfigError):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("columns", "block"), [(1024, 128), (3584, 128), (96, 32), (80, 16), (64, 64), (100, 128)]
)
def test_blocks_shrink_until_they_divide_a_row(columns: int, block: int) -> None:
    assert Format(8, 128).fitted(columns).block == block


def test_a_recipe_of_ones_own_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((recipes_directory() / "int4.toml").read_text().replace('"int4"', '"mine"'))
    assert load_recipe(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("before", "after", "evidence"),
    [
        ("bits = 4", "bits = 5", "bits"),
        ("block = 32", "block = 33", "block"),
        ("[mlp]", "[mpl]", "mpl"),
        ("zero_points = true", "zero_point = true", "zero_point"),
        ("bits = 4", "bits = 32", "block and zero_points"),
        ('name = "int4"', 'name = "../x"', "name"),
        ("[mlp]", "[mlp", "mine.toml"),
    ],
)
def test_a_wrong_recipe_is_refused(before: str, after: str, evidence: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((recipes_directory() / "int4.toml").read_text().replace(before, after, 1))
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(path))
    assert evidence in caught.value.render()


@pytest.mark.parametrize("name", ["int5", "../int4", "", "missing.toml"])
def test_an_unknown_recipe_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        load_recipe(name)
