"""Graphs with their weights as the kernels want them, kept in the cache directory and mapped from there.

onnxruntime packs quantised weights anew each time a graph is loaded, into memory that only this process has. Packed once
into files, they are loaded in a fraction of the time and lie in the page cache, which the kernel can take back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.model.aligned import align
from edge.model.bundle import Bundle
from edge.model.manifest import Graph

DIRECTORY = "prepared"
"""Under the cache directory; in it one directory per bundle, onnxruntime and processor."""

KEPT = 2
"""Directories that stay, the ones used last: the bundle in use, and the one before or beside it."""

_COMPLETE = "complete.json"  # written last; sizes of the files
_ROOM = 4  # free disk space wanted, in sizes of the graphs' own files: what is written has two to three


class Prepared:
    """The prepared graphs of one bundle.

    A cache that cannot be read or written costs time and memory, and nothing else.

    Args:
        bundle: A checked bundle.
        cache: The cache directory.
    """

    def __init__(self, bundle: Bundle, cache: Path) -> None:
        self._bundle = bundle
        self._root = cache / DIRECTORY
        self._place = self._root / _key(bundle)

    def find(self, graph: Graph) -> Path | None:
        """Return the prepared file of a graph, or None where there is none that is whole."""
        try:
            sizes = json.loads((self._place / _COMPLETE).read_text(encoding="utf-8"))
            whole = graph.file in sizes and all(
                (self._place / name).stat().st_size == size for name, size in sizes.items()
            )
            if whole:
                os.utime(self._place)
        except (OSError, ValueError):
            return None
        return self._place / graph.file if whole else None

    def weights(self, graph: Graph) -> Path:
        """Return where the packed weights of a graph lie, or would lie."""
        return self._place / f"{graph.file}.data"

    def make(self, graphs: Sequence[Graph], options: Any) -> None:
        """Prepare graphs and clear away what was not used lately; nothing happens where the disk has too little room.

        Args:
            graphs: All that are wanted.
            options: Returns onnxruntime's session options, new ones at each call.
        """
        # Full disks, and whatever onnxruntime raises: a graph that is wrong is found, and said, where it is loaded.
        with contextlib.suppress(Exception):
            self._root.mkdir(parents=True, exist_ok=True)
            own = sum(
                entry.size
                for name, entry in self._bundle.manifest.files.items()
                if name.partition(".")[0] in {graph.file.partition(".")[0] for graph in graphs}
            )
            if shutil.disk_usage(self._root).free < _ROOM * own:
                return
            with tempfile.TemporaryDirectory(dir=self._root, prefix=".") as name:
                place = Path(name) / "graphs"
                place.mkdir()
                for graph in graphs:
                    self._write(graph, place, options())
                _seal(place)
                if self._place.exists():  # damaged, or another process was first: what it has mapped lives on
                    shutil.rmtree(self._place)
                place.rename(self._place)
            self._clear()

    def drop(self) -> None:
        """Remove what turned out to be of no use."""
        shutil.rmtree(self._place, ignore_errors=True)

    def _write(self, graph: Graph, place: Path, options: Any) -> None:
        import onnxruntime

        options.optimized_model_filepath = str(place / graph.file)
        for key, value in (
            ("session.save_external_prepacked_constant_initializers", "1"),
            ("session.optimized_model_external_initializers_file_name", f"{graph.file}.data"),
            ("session.optimized_model_external_initializers_min_size_in_bytes", "1024"),
        ):
            options.add_session_config_entry(key, value)
        source = self._bundle.path / graph.file
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        align(place / graph.file, place / f"{graph.file}.data")

    def _clear(self) -> None:
        found = [(path.stat().st_mtime, path) for path in self._root.iterdir() if path.name[0] != "."]
        for _, path in sorted(found)[:-KEPT]:
            shutil.rmtree(path, ignore_errors=True)


def _seal(place: Path) -> None:
    """Bring the files to the disk and write down their sizes: power may fail at any time."""
    sizes = {}
    for path in sorted(place.iterdir()):
        sizes[path.name] = path.stat().st_size
        _sync(path)
    stamp = place / _COMPLETE
    stamp.write_text(json.dumps(sizes), encoding="utf-8")
    _sync(stamp)
    _sync(place)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key(bundle: Bundle) -> str:
    """Return what the packed form depends on: the bundle, onnxruntime's version, and the processor's kernels."""
    import onnxruntime

    features = ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features", "CPU part", "model name")):
                features += line
    said = f"{bundle.hash}\n{onnxruntime.__version__}\n{platform.machine()}\n{features}"
    return hashlib.sha256(said.encode()).hexdigest()[:32]
