"""Opens a bundle: nothing of it is used before every promise of its manifest has been checked against the disk."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from edge.errors import BundleError
from edge.model.consistency import inconsistencies
from edge.model.manifest import MANIFEST, SCHEMA, FileEntry, Manifest, bundle_hash

CHECKS = "bundle-checks.json"
"""Name of the file under the cache directory that remembers full checks."""

COPY_AGAIN = "Copy it again, then run: edge check CONFIG"
CONVERT_AGAIN = "Convert it again: edge-export convert SOURCE OUT"

_MANIFEST_BYTES_MAX = 16 << 20  # a real one has some 100 kB; more is not read
_BLOCK = 1 << 20
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")  # the wheels that provide the module `onnxruntime`


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that has passed every check.

    Attributes:
        path: Its directory.
        manifest: What it says of itself.
        hash: SHA-256 of the manifest as it lies on the disk, which pins every file.
    """

    path: Path
    manifest: Manifest
    hash: str


def open_bundle(path: Path, *, full: bool = False, cache: Path | None = None) -> Bundle:
    """Open and check a bundle.

    Args:
        path: The bundle's directory.
        full: Hash every file, whatever was remembered.
        cache: Directory in which a full check is remembered by the files' sizes and times; None remembers nothing, so
            every file is hashed each time. A cache that cannot be read or written only costs time.

    Raises:
        BundleError: The bundle is missing, damaged, inconsistent, made by a newer edge-export or for another
            onnxruntime. The first thing found is reported.
    """
    raw = _read_manifest(path)
    manifest = _parse(path, raw)
    _check_runtime(path, manifest)
    problems = list(inconsistencies(manifest))
    if problems:
        _refuse(f"bundle {path} contradicts itself", problems, CONVERT_AGAIN)
    digest = bundle_hash(raw)
    found = {name: _check_file(path, name, entry) for name, entry in manifest.files.items()}
    remembered = None if full or cache is None else _recall(cache, path)
    now: dict[str, object] = {"hash": digest, "files": found}
    if remembered != now:
        for name, entry in manifest.files.items():
            _check_digest(path, name, entry)
        if cache is not None:
            _remember(cache, path, now)
    return Bundle(path, manifest, digest)


def _refuse(what: str, evidence: Iterable[str], next_step: str, cause: Exception | None = None) -> NoReturn:
    raise BundleError(what, evidence=evidence, next_step=next_step) from cause


def _read_manifest(path: Path) -> bytes:
    if not path.exists():
        _refuse(
            f"there is no bundle at {path}",
            [],
            f"Correct bundle.path, or make one: edge-export convert SOURCE {path}",
        )
    file = path / MANIFEST
    if not path.is_dir() or not file.is_file():
        found = "a directory without it" if path.is_dir() else "not a directory"
        _refuse(
            f"{path} is not a bundle",
            [f"expected a directory with {MANIFEST}, found {found}"],
            "Give the directory that edge-export convert wrote.",
        )
    try:
        size = file.stat().st_size
        if size > _MANIFEST_BYTES_MAX:
            _refuse(
                f"bundle {path} is damaged",
                [f"{MANIFEST}: {size} bytes, at most {_MANIFEST_BYTES_MAX} expected"],
                COPY_AGAIN,
            )
        return file.read_bytes()
    except OSError as error:
        _refuse(f"bundle {path} cannot be read", [str(error)], "Give this user the right to read it.", error)


def _parse(path: Path, raw: bytes) -> Manifest:
    try:
        content: Any = json.loads(raw)
    except (ValueError, RecursionError) as error:
        _refuse(f"bundle {path} is damaged", [f"{MANIFEST} is not JSON: {error}"], COPY_AGAIN, error)
    schema = content.get("schema") if isinstance(content, dict) else None
    family, _, major = SCHEMA.partition("/")
    found = re.fullmatch(re.escape(family) + r"/([0-9]{1,9})", schema) if isinstance(schema, str) else None
    if found is None:
        _refuse(
            f"{path} is not a bundle",
            [f"{MANIFEST}: schema {schema!r}, expected {SCHEMA!r}"],
            "Give the directory that edge-export convert wrote.",
        )
    if int(found[1]) > int(major):
        _refuse(
            f"bundle {path} was made by a newer edge-export",
            [f"{MANIFEST}: schema {schema!r}, this program reads {SCHEMA!r}"],
            "Update edgeclip, or convert the model with this version of edge-export.",
        )
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        evidence = [
            f"{MANIFEST}: {'.'.join(map(str, item['loc'])) or 'file'}: {_message(item['type'], item['msg'])}"
            for item in error.errors()[:10]
        ]
        _refuse(f"the manifest of bundle {path} is wrong", evidence, COPY_AGAIN, error)


def _message(kind: str, message: str) -> str:
    return "unknown key" if kind == "extra_forbidden" else message


def _check_runtime(path: Path, manifest: Manifest) -> None:
    wanted = manifest.runtime
    installed = _onnxruntime_version()
    if installed is None:
        _refuse("onnxruntime is not installed", [], 'Install it: pip install "edgeclip"')
    if not _release(wanted.onnxruntime_at_least) <= _release(installed) < _release(wanted.onnxruntime_below):
        _refuse(
            f"bundle {path} was made for another onnxruntime",
            [
                f"onnxruntime {installed} is installed",
                f"the bundle was measured on [{wanted.onnxruntime_at_least}, {wanted.onnxruntime_below})",
            ],
            f'Install it: pip install "onnxruntime>={wanted.onnxruntime_at_least},<{wanted.onnxruntime_below}"',
        )


def _onnxruntime_version() -> str | None:
    for name in _RUNTIMES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, padded: 1.31 and 1.31.0 are equal; what follows them (rc1, +cpu) is left out."""
    found = re.match(r"[0-9]+(\.[0-9]+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    return tuple([*numbers, 0, 0, 0, 0][:4])


def _check_file(path: Path, name: str, entry: FileEntry) -> list[int]:
    """Return size and time of a listed file.

    Links are refused: what they lead to changes without a trace in the bundle, and a copy of the directory would not
    hold it. Names without a separator are promised by the manifest's own pattern.
    """
    try:
        found = os.lstat(path / name)
    except FileNotFoundError as error:
        _refuse(f"bundle {path} is incomplete", [f"{name} is missing"], COPY_AGAIN, error)
    except OSError as error:
        _refuse(f"bundle {path} cannot be read", [str(error)], "Give this user the right to read it.", error)
    if not stat.S_ISREG(found.st_mode):
        kind = "a link" if stat.S_ISLNK(found.st_mode) else "not a file"
        _refuse(
            f"bundle {path} is damaged",
            [f"{name}: expected a regular file, found {kind}"],
            "Copy it again with the files themselves (cp -rL), then run: edge check CONFIG",
        )
    if found.st_size != entry.size:
        _refuse(
            f"bundle {path} is damaged",
            [f"{name}: {found.st_size} bytes, {MANIFEST} says {entry.size}"],
            COPY_AGAIN,
        )
    return [found.st_size, found.st_mtime_ns]


def _check_digest(path: Path, name: str, entry: FileEntry) -> None:
    digest = hashlib.sha256()
    try:
        with (path / name).open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        _refuse(f"bundle {path} cannot be read", [str(error)], "Give this user the right to read it.", error)
    if digest.hexdigest() != entry.sha256:
        _refuse(
            f"bundle {path} is damaged",
            [f"{name}: sha256 {digest.hexdigest()}, {MANIFEST} says {entry.sha256}"],
            COPY_AGAIN,
        )


def _recall(cache: Path, path: Path) -> object:
    return _checks(cache).get(str(path.resolve()))


def _checks(cache: Path) -> dict[str, object]:
    try:
        content = json.loads((cache / CHECKS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(cache: Path, path: Path, check: dict[str, object]) -> None:
    """Write the file anew and rename it into place; failing only means that the next start hashes again."""
    checks = {known: value for known, value in _checks(cache).items() if Path(known).exists()}
    checks[str(path.resolve())] = check
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=cache, prefix=CHECKS, delete=False, encoding="utf-8"
        ) as aside:
            aside.write(json.dumps(checks))
        Path(aside.name).replace(cache / CHECKS)
