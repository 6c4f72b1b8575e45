"""Pictures: upright, at model size, converted once."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.capture.picture import Converter, Decoded, Orientation, Wrapper, orientation_of
from edge.capture.reader import MAILBOX_LEAST, Mailbox
from edge.errors import CameraLostError
from edge.records import Size
from tests.media import bicubic, stamp_of, stamped

ONE = 1 << 16


def picture(number: int = 5, *, orientation: Orientation | None = None) -> Decoded:
    frame = av.VideoFrame.from_ndarray(stamped(number), "rgb24")
    size = Size(frame.height, frame.width)
    turned = orientation or Orientation()
    return Decoded(0, 0, 0, 0.0, turned.upright(size), turned, frame)


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    return struct.pack("=9i", a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "turns"),
    [(1, 0, 0, 1, 0), (0, -1, 1, 0, 1), (-1, 0, 0, -1, 2), (0, 1, -1, 0, 3)],
)
def test_a_display_matrix_turns_a_picture_counter_clockwise(
    a: int, b: int, c: int, d: int, turns: int
) -> None:
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    orientation = orientation_of(matrix(a, b, c, d))
    np.testing.assert_array_equal(orientation.apply(rgb), np.rot90(rgb, turns))
    assert orientation.upright(Size(2, 3)) == (Size(3, 2) if turns % 2 else Size(2, 3))


def test_a_display_matrix_mirrors_a_picture() -> None:
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(orientation_of(matrix(-1, 0, 0, 1)).apply(rgb), rgb[:, ::-1])
    np.testing.assert_array_equal(orientation_of(matrix(1, 0, 0, -1)).apply(rgb), rgb[::-1])
    np.testing.assert_array_equal(orientation_of(matrix(0, 1, 1, 0)).apply(rgb), rgb.transpose(1, 0, 2))


def test_exact_is_the_full_picture_scaled_by_the_callers_function() -> None:
    size = Size(48, 80)
    found = Converter("exact", bicubic).rgb(picture(), size)
    np.testing.assert_array_equal(found, bicubic(stamped(5), size))


def test_fast_scales_a_turned_picture_to_the_same_content() -> None:
    turned = picture(5, orientation=Orientation(transpose=True, flip_rows=True))
    size = Size(80, 48)
    fast = Converter("fast", bicubic).rgb(turned, size)
    exact = Converter("exact", bicubic).rgb(turned, size)
    assert fast.shape == exact.shape == (80, 48, 3)
    assert np.abs(fast.astype(int) - exact).mean() < 4


def test_a_picture_that_ticks_repeat_is_converted_once() -> None:
    calls = 0

    def counting(rgb: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
        nonlocal calls
        calls += 1
        return bicubic(rgb, size)

    converter = Converter("exact", counting)
    one, other = picture(1), picture(2)
    for shown in (one, one, one, other, other):
        converter.rgb(shown, Size(48, 80))
    assert calls == 2
    assert stamp_of(converter.rgb(other, Size(96, 160))) == 2  # another size is another conversion


def test_times_are_exact_on_the_tick() -> None:
    frame = av.VideoFrame(16, 16, "rgb24")
    frame.pts = 3
    wrapper = Wrapper(Fraction(1, 24))
    assert wrapper.wrap(frame, arrival_ns=0, cost_s=0.0).pts_ns == 125_000_000
    frame.pts = None
    assert wrapper.wrap(frame, arrival_ns=0, cost_s=0.0).pts_ns is None


def test_a_full_mailbox_drops_the_oldest_and_counts_it() -> None:
    mailbox = Mailbox()
    large = Decoded(0, 0, 0, 0.0, Size(8192, 8192), Orientation(), picture().frame)
    for _ in range(MAILBOX_LEAST):
        mailbox.put(large)
    newest = picture()
    mailbox.put(large)
    mailbox.fail(CameraLostError("the cable"))
    assert mailbox.dropped() == 1
    assert mailbox.dropped() == 0
    mailbox.put(newest)
    taken = [mailbox.get(0) for _ in range(MAILBOX_LEAST + 1)]
    assert taken[-1] is newest  # small again, so nothing had to go
    with pytest.raises(CameraLostError, match="cable"):
        mailbox.get(0)


def test_an_empty_mailbox_gives_nothing() -> None:
    assert Mailbox().get(0) is None
