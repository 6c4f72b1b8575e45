"""Other processors than this one, emulated: a Cortex-A76 with onnxruntime's ARM wheel, and an x86 without VNNI.

Numbers that come out of them are those of the real kernels; times mean nothing. Needs qemu-user-static, apt, dpkg and pip.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
THREADS: Final = 2
_DEBIAN: Final = (
    "python3.11",
    "libc6",
    "libstdc++6",
    "libgcc-s1",
    "zlib1g",
    "libexpat1",
    "libffi8",
    "libssl3",
)
_WHEELS: Final = ("onnxruntime", "numpy", "tokenizers", "llguidance", "pydantic", "pillow")
_GLIBC: Final = (17, 27, 28, 31, 34, 35)  # that wheels may ask for: Debian 12 has 2.36
_APT: Final = """\
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Install-Recommends "false";
Dir::State::lists "{place}/lists";
Dir::State::status "{place}/status";
Dir::Cache "{place}/cache";
Debug::NoLocking "true";
"""
_A76: Final = """\
processor\t: {number}
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
_HASWELL: Final = (
    "processor\t: 0\nmodel name\t: emulated\nflags\t\t: fpu sse2 sse4_1 sse4_2 avx f16c fma avx2\n"
)


def cortex_a76(place: Path) -> list[str]:
    """Return the command that runs Python on the core of a Raspberry Pi 5; what it needs is fetched once.

    Args:
        place: Where Debian's packages and the wheels are unpacked, some 330 MB.
    """
    root, packages = place / "arm64", place / "wheels"
    if not (place / "fetched").exists():
        _unpack_debian(place / "apt", root)
        _unpack_wheels(packages)
        _write_processor(root)
        (place / "fetched").touch()
    settings = {"PYTHONHOME": root / "usr", "PYTHONPATH": f"{packages}:{ROOT}", "PYTHONDONTWRITEBYTECODE": 1}
    given = [part for name, value in settings.items() for part in ("-E", f"{name}={value}")]
    emulator = ["qemu-aarch64-static", "-cpu", "cortex-a76", "-L", str(root), *given]
    return [*emulator, str(root / "usr/bin/python3.11")]


def haswell(place: Path) -> list[str]:
    """Return the command that runs this Python on an x86 with AVX2 and no VNNI."""
    root = place / "haswell"
    (root / "proc").mkdir(parents=True, exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(_HASWELL)
    given = ["-E", f"PYTHONPATH={ROOT}:{':'.join(filter(None, sys.path))}"]
    return [
        "qemu-x86_64-static",
        "-cpu",
        "Haswell",
        "-L",
        str(root),
        *given,
        str(Path(sys.executable).resolve()),
    ]


def _run(*command: str, **environment: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment)


def _unpack_debian(work: Path, root: Path) -> None:
    (work / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (work / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (work / "status").touch()
    settings = work / "apt.conf"
    settings.write_text(_APT.format(place=work))
    _run("apt-get", "-qq", "update", APT_CONFIG=str(settings))
    _run("apt-get", "-qq", "-y", "--download-only", "install", *_DEBIAN, APT_CONFIG=str(settings))
    for package in sorted((work / "cache" / "archives").glob("*.deb")):
        _run("dpkg", "-x", str(package), str(root))


def _unpack_wheels(packages: Path) -> None:
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in _GLIBC]
    options = ["--python-version=3.11", "--implementation=cp", "--only-binary=:all:", "--quiet"]
    wanted = [f"{name}=={version(name)}" for name in _WHEELS]
    pip = [sys.executable, "-m", "pip", "install", "--target", str(packages)]
    _run(*pip, *options, *platforms, "--platform=manylinux2014_aarch64", *wanted)


def _write_processor(root: Path) -> None:
    """Write what onnxruntime reads about the processor: without it, it dies when it is imported."""
    processors: Sequence[int] = range(THREADS)
    system = root / "sys/devices/system/cpu"
    files = {root / "proc/cpuinfo": "".join(_A76.format(number=number) for number in processors)}
    for name, text in {
        "possible": f"0-{THREADS - 1}",
        "present": f"0-{THREADS - 1}",
        "kernel_max": "255",
    }.items():
        files[system / name] = f"{text}\n"
    for number in processors:
        at = system / f"cpu{number}"
        topology = {"physical_package_id": "0", "core_id": f"{number}", "thread_siblings_list": f"{number}"}
        files |= {at / "topology" / name: f"{text}\n" for name, text in topology.items()}
        files[at / "topology" / "core_siblings_list"] = f"0-{THREADS - 1}\n"
        files[at / "cpufreq" / "cpuinfo_max_freq"] = "2400000\n"
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
