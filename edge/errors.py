"""Every error that a user can meet, as one tree.

    EdgeError                      exit code 1
    ├── ConfigError                78  a key, a value or a path in the TOML is wrong
    ├── BundleError                78  the bundle is missing, damaged, newer than this program or not a bundle
    ├── CheckpointError             1  the source of a conversion cannot be used
    ├── VideoError                  1  a video or camera cannot be opened or decoded
    │   ├── EmptyVideoError            it opened and holds no picture
    │   └── CameraLostError            a live source stopped delivering; it is worth trying again
    ├── ModelError                  1  onnxruntime failed, or the engine was used wrongly
    │   ├── ContextFullError           the clip and its questions do not fit the arena
    │   └── StaleForkError             the fork's arena has been given to another clip
    ├── AnswerError                 1  the model's text cannot be made a valid answer
    ├── SchemaError                 1  a schema that an asker gave cannot be used for an answer
    └── DeliveryError               1  the outbox or the broker refused

Foreign errors (PyAV, onnxruntime, paho, SQLite, pydantic) are translated once, where they enter, with ``from``.
A command prints ``render()`` to standard error and exits with ``exit_code``; a traceback is a defect.
"""

from __future__ import annotations

from collections.abc import Iterable

EXIT_FAILURE = 1
EXIT_CONFIG = 78  # sysexits.h EX_CONFIG; the systemd unit does not restart on it


class EdgeError(Exception):
    """What went wrong, the evidence for it, and what to do next.

    Args:
        what: One sentence without a full stop: what is wrong, with the name of the thing.
        evidence: Lines that show it (an expected and a found value, a foreign message).
        next_step: What the user can do, as a sentence; commands stand in it literally.
    """

    exit_code: int = EXIT_FAILURE

    def __init__(self, what: str, *, evidence: Iterable[str] = (), next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.evidence = tuple(evidence)
        self.next_step = next_step

    def render(self) -> str:
        """Return the text for standard error: ``error:`` line, indented evidence, indented next step."""
        lines = [f"error: {self.what}", *(f"  {line}" for line in self.evidence)]
        if self.next_step:
            lines.append(f"  {self.next_step}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword arguments: these errors travel between processes."""
        return _rebuild, (type(self), self.what, self.evidence, self.next_step)


def _rebuild(kind: type[EdgeError], what: str, evidence: tuple[str, ...], next_step: str) -> EdgeError:
    return kind(what, evidence=evidence, next_step=next_step)


class ConfigError(EdgeError):
    """A key, a value or a path in the configuration is wrong."""

    exit_code = EXIT_CONFIG


class BundleError(EdgeError):
    """A bundle is missing, damaged, newer than this program, or not a bundle at all."""

    exit_code = EXIT_CONFIG


class CheckpointError(EdgeError):
    """The source of a conversion is missing, damaged or of another architecture."""


class VideoError(EdgeError):
    """A video file or camera cannot be opened or decoded."""


class EmptyVideoError(VideoError):
    """The source opened and holds no picture."""


class CameraLostError(VideoError):
    """A live source stopped delivering; opening it again may help."""


class ModelError(EdgeError):
    """onnxruntime failed, or the engine was used against its contract."""


class ContextFullError(ModelError):
    """The clip and its questions do not fit into the arena."""


class StaleForkError(ModelError):
    """The fork belongs to an epoch of its arena that is over."""


class AnswerError(EdgeError):
    """The model's text cannot be made a valid answer."""


class SchemaError(EdgeError):
    """A schema that an asker gave cannot be used for an answer."""


class DeliveryError(EdgeError):
    """The outbox or the broker refused a message."""
