"""Profiles of the devices that this program is made for: how fast, how hot, how hungry; used before anything is measured.

Sources. Raspberry Pi 5: 4 Cortex-A76 at 2.4 GHz with two 128-bit dot-product pipes make 614 GOP/s of int8, of which a
fifth to a third is taken as sustained; 17 GB/s of memory, of which llama.cpp reaches 10; 3 W idle and 7 W in decode by
its PMIC; soft limit 80 degrees. Jetson Orin Nano 8 GB in its 15 W mode: 6 Cortex-A78AE at 1.5 GHz (580 GOP/s, the same
shares; the GPU is not used), 68 GB/s of memory of which its processor is taken to reach 25, throttling from 97 degrees
(NVIDIA, Jetson Linux Developer Guide). Neither was at hand: none of this was measured on them. Any other machine: cores
with AVX-512 VNNI, set so that Qwen3.5-0.8B int4 takes what it took on two of them (see the README); a guess elsewhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")


@dataclass(frozen=True, slots=True)
class Device:
    """One kind of machine.

    Attributes:
        name: For people.
        cores: Physical ones.
        block_gops: Sustained billions of operations a second of matrix work with weights in blocks of 4 or 8 bits, all
            cores; a multiply-add is two.
        row_gops: The same with int8 weights and activations, one scale a row.
        fp32_gops: The same in float32: attention, and layers that are not quantised.
        memory_gbs: Billions of bytes a second that decoding reaches.
        idle_w: Power when nothing is done.
        busy_w: Power when all cores work.
        hot_c: From here on less is done; 5 degrees more: clips are deferred, 10 more: skipped.
    """

    name: str
    cores: int
    block_gops: float
    row_gops: float
    fp32_gops: float
    memory_gbs: float
    idle_w: float
    busy_w: float
    hot_c: float


RASPBERRY_PI_5 = Device(
    name="Raspberry Pi 5",
    cores=4,
    block_gops=130.0,
    row_gops=200.0,
    fp32_gops=60.0,
    memory_gbs=10.0,
    idle_w=3.0,
    busy_w=7.0,
    hot_c=75.0,
)
JETSON_ORIN_NANO = Device(
    name="Jetson Orin Nano",
    cores=6,
    block_gops=125.0,
    row_gops=190.0,
    fp32_gops=60.0,
    memory_gbs=25.0,
    idle_w=5.0,
    busy_w=10.0,
    hot_c=85.0,
)
GENERIC = Device(
    name="other",
    cores=os.cpu_count() or 1,
    block_gops=250.0 * (os.cpu_count() or 1),
    row_gops=380.0 * (os.cpu_count() or 1),
    fp32_gops=125.0 * (os.cpu_count() or 1),
    memory_gbs=21.0,
    idle_w=10.0,
    busy_w=10.0 + 10.0 * (os.cpu_count() or 1),
    hot_c=85.0,
)
KNOWN = (RASPBERRY_PI_5, JETSON_ORIN_NANO)


def this_device(sys: Path = SYS) -> Device:
    """Return the profile of the board that the device tree names, or the general one.

    Args:
        sys: Where sysfs is mounted.
    """
    try:
        model = (sys / "firmware/devicetree/base/model").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return GENERIC
    board = model.strip("\0 \n")
    return next((device for device in KNOWN if device.name in board), GENERIC)
