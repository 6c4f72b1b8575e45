"""Text to token ids and back, by the bundle's own tokenizer.json."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as Backend

from edge.errors import BundleError


class Tokenizer:
    """A byte-level BPE.

    Args:
        path: A ``tokenizer.json``.
        vocab_used: Ids that the model knows; the tokenizer may have no more.

    Raises:
        BundleError: The file cannot be read as a tokenizer, or has more ids than the model.
    """

    def __init__(self, path: Path, *, vocab_used: int) -> None:
        try:
            self.json = path.read_text(encoding="utf-8")
            self._backend = Backend.from_str(self.json)
        except Exception as error:  # the library raises plain Exception
            raise BundleError(
                f"the tokenizer {path} cannot be read",
                evidence=[str(error)],
                next_step="Convert the model again: edge-export convert SOURCE OUT",
            ) from error
        # Of added tokens the library spells out only those that are called special, not <think> or <tool_call>; behind
        # their first character the text is cut.
        others = [
            added.content
            for added in self._backend.get_added_tokens_decoder().values()
            if not added.special and len(added.content) > 1
        ]
        self._cut = re.compile(
            "|".join(f"(?<={re.escape(text[0])})(?={re.escape(text[1:])})" for text in others) or r"(?!)"
        )
        self.size = int(self._backend.get_vocab_size(with_added_tokens=True))
        if self.size > vocab_used:
            raise BundleError(
                f"the tokenizer {path} does not belong to this model",
                evidence=[f"it has {self.size} ids, manifest.json says {vocab_used}"],
                next_step="Convert the model again: edge-export convert SOURCE OUT",
            )

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text of ours; special tokens in it become their ids, and nothing is added around them."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_words(self, text: str) -> list[int]:
        """Return the ids of somebody's words: what looks like a special token is spelt out, so it cannot act as one."""
        self._backend.encode_special_tokens = True
        try:
            return [token for piece in self._cut.split(text) for token in self.encode(piece)]
        finally:
            self._backend.encode_special_tokens = False

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids without special tokens; bytes that are not UTF-8 become U+FFFD."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True))
