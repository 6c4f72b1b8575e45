"""Outlines of icons become masks: curves where SVG says, holes where the rule says, the sheet as committed."""

import math

import numpy as np
import pytest

from edge.demo.world.pictogram import aspect, patch
from edge.demo.world.vocabulary import KINDS
from export.demo.pictograms import ICONS, SIDE, outlines, pictogram, raster, shapes


def test_arcs_run_on_their_circle() -> None:
    (circle,) = outlines("M12 2a10 10 0 0 1 10 10 10 10 0 0 1-10 10A10 10 0 0 1 2 12 10 10 0 0 1 12 2")
    assert np.abs(np.abs(np.array(circle) - (12 + 12j)) - 10).max() < 1e-9
    assert raster([circle]).mean() == pytest.approx(math.pi / 4, abs=0.01)


def test_the_large_arc_is_the_long_way_round() -> None:
    (short,), (long,) = (outlines(f"M0 0a1 1 0 {large} 1 1 1z") for large in (0, 1))
    assert max(abs(point - 1j) for point in long) > 1.9
    assert max(abs(point - 1j) for point in short) < 1.5


def test_relative_and_absolute_commands_draw_the_same() -> None:
    absolute = outlines("M1 1L5 1H9V4C9 6 8 7 6 7S2 7 1 4Z")
    relative = outlines("m1 1 4 0h4v3c0 2-1 3-3 3s-4 0-5-3z")
    np.testing.assert_allclose(absolute[0], relative[0])


def test_an_outline_inside_another_is_a_hole() -> None:
    ring = raster(outlines("M0 0h8v8H0zM2 2h4v4H2z"))
    assert ring.shape == (SIDE, SIDE)
    assert ring[SIDE // 2, SIDE // 2] == 0
    assert ring.mean() == pytest.approx(0.75, abs=0.02)


def test_nothing_shows_through_the_windows_of_a_car_but_they_are_in_its_shade() -> None:
    outer, window = "M0 0h8v8H0z", "M2 2h4v4H2z"
    cover, tone = pictogram("car", outlines(outer + window))
    assert (cover == 255).all()
    assert (tone[SIDE // 2, SIDE // 2], tone[2, 2]) == (0, 255)


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(ValueError, match="Q"):
        outlines("M0 0Q1 1 2 2")


def test_the_sheet_holds_every_kind_and_its_shapes_are_what_this_draws() -> None:
    assert set(ICONS) | set(shapes()) == set(KINDS)
    for kind, polygons in shapes().items():
        cover, _ = pictogram(kind, polygons)
        height, width = cover.shape
        drawn = patch(kind, mirrored=False, box=(0, 0, width, height)).cover[:height, :width]
        np.testing.assert_allclose(drawn, cover / 255, atol=1e-9)
        assert aspect(kind) == width / height


def test_a_patch_covers_the_same_area_wherever_it_lies() -> None:
    for kind in KINDS:
        areas = [
            patch(kind, mirrored=mirrored, box=(x, y, x + 11 * aspect(kind), y + 11)).cover.sum()
            for mirrored in (False, True)
            for x, y in ((0, 0), (0.3, 0.8), (-7.6, 2.5))
        ]
        np.testing.assert_allclose(areas, areas[0])
