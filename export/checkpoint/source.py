"""Opens SOURCE, a local directory or a hub id, and checks all of it before the first weight is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.errors import CheckpointError
from edge.model.manifest import Generation, PromptPieces, Tokens
from export.checkpoint.dims import Dims, read_dims
from export.checkpoint.names import IGNORED, expected_tensors
from export.checkpoint.processor import Processor, read_generation, read_license, read_processor, read_tokens
from export.checkpoint.template import prompt_pieces, read_template
from export.checkpoint.tensors import INDEX, TensorStore, open_tensors

LOCAL: Final = "local"  # the revision of a directory that is no download
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_SMALL_FILES: Final = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    INDEX,
    "README.md",
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was found whole; ``unexpected`` tensors are in the files and used by nothing."""

    directory: Path
    id: str
    revision: str
    license: str
    dims: Dims
    processor: Processor
    tokens: Tokens
    prompt: PromptPieces
    generation: Generation
    store: TensorStore
    shapes: Mapping[str, tuple[int, ...]]
    unexpected: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """Parameters that the bundle carries: all but multi-token prediction, the tied head counted once."""
        return sum(self.store.tensors[name].size for name in self.shapes)


def open_checkpoint(source: str, revision: str | None = None) -> Checkpoint:
    """Find a checkpoint and check its files against each other.

    Args:
        source: A directory, or a hub id such as ``Qwen/Qwen3.5-0.8B`` (downloaded into the hub's usual cache).
        revision: Branch, tag or commit of a hub id.

    Raises:
        CheckpointError: It cannot be found, is of another architecture, or is damaged.
    """
    directory, name, found_revision = locate(source, revision)
    dims = read_dims(directory)
    processor = read_processor(directory, dims)
    tokens = read_tokens(directory, dims)
    prompt = prompt_pieces(*read_template(directory))
    generation = read_generation(directory)
    if found_revision != LOCAL:
        _download(source, revision, ("*.safetensors",))
    store = open_tensors(directory)
    shapes = expected_tensors(dims)
    return Checkpoint(
        directory=directory,
        id=name,
        revision=found_revision,
        license=read_license(directory, name),
        dims=dims,
        processor=processor,
        tokens=tokens,
        prompt=prompt,
        generation=generation,
        store=store,
        shapes=shapes,
        unexpected=store.check(shapes, IGNORED),
    )


def locate(source: str, revision: str | None) -> tuple[Path, str, str]:
    """Return the directory of a source, its id and its revision; of a hub id only the small files are there yet.

    Raises:
        CheckpointError: It is neither a directory nor a hub id that can be had.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if revision:
            raise CheckpointError(
                f"{source} is a directory, which has no revisions",
                next_step="Leave --revision away, or name a hub id.",
            )
        return path, path.resolve().name, LOCAL
    if path.exists():
        raise CheckpointError(
            f"{source} is not a directory", next_step="Name the directory that holds config.json."
        )
    if not _HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"{source} does not exist", next_step="Name a directory or a hub id such as Qwen/Qwen3.5-0.8B."
        )
    directory = _download(source, revision, _SMALL_FILES)
    return directory, source, directory.name  # the cache names a snapshot by its commit


def _download(repository: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        raise CheckpointError(
            f"{repository}{at} cannot be downloaded",
            evidence=[line for line in str(error).splitlines() if line.strip()][:2],
            next_step="No such directory exists either. Check the name and the network, or copy the checkpoint here.",
        ) from error
