"""Text to token ids and back, by the bundle's own tokenizer.json; the same vocabulary serves the grammars."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.errors import BundleError
from edge.model.heap import trim
from edge.model.manifest import Tokens


class Tokenizer:
    """A byte-level BPE.

    Llguidance holds it: with a tokenizer of its own beside it, the same 248,000 tokens would lie in memory twice (100 MiB).

    Args:
        path: A ``tokenizer.json``; it must spell all 256 bytes.
        tokens: Sizes of the vocabulary, and the ids that may end an answer; no other special token may.

    Attributes:
        size: Ids that the file knows.
        tables: Llguidance's tokenizer.

    Raises:
        BundleError: The file cannot be read as a tokenizer, or has more ids than the model.
    """

    def __init__(self, path: Path, tokens: Tokens) -> None:
        from llguidance import LLTokenizer

        try:
            content = path.read_text(encoding="utf-8")
            self.tables: Any = LLTokenizer(content, n_vocab=tokens.vocab_rows, eos_token=list(tokens.eos))
            added = _added_tokens(content)
        except Exception as error:  # the library raises plain Exception
            raise BundleError(
                f"the tokenizer {path} cannot be read",
                evidence=[str(error)[:400]],
                next_step="Convert the model again: edge-export convert SOURCE OUT",
            ) from error
        del content
        trim()
        self._special = frozenset(int(token["id"]) for token in added if token["special"])
        # What looks like an added token is cut behind its first character, so that it is spelt out.
        contents = [str(token["content"]) for token in added if len(token["content"]) > 1]
        self._cut = re.compile(
            "|".join(f"(?<={re.escape(text[0])})(?={re.escape(text[1:])})" for text in contents) or r"(?!)"
        )
        self.size = next((place + 1 for place in reversed(range(tokens.vocab_rows)) if self._known(place)), 0)
        if self.size > tokens.vocab_used:
            raise BundleError(
                f"the tokenizer {path} does not belong to this model",
                evidence=[f"it has {self.size} ids, manifest.json says {tokens.vocab_used}"],
                next_step="Convert the model again: edge-export convert SOURCE OUT",
            )

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text of ours; special tokens in it become their ids, and nothing is added around them."""
        return list(self.tables.tokenize_str(text))

    def encode_words(self, text: str) -> list[int]:
        """Return the ids of somebody's words: what looks like a special token is spelt out, so it cannot act as one."""
        return [token for piece in self._cut.split(text) for token in self.encode(piece)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids without special tokens; bytes that are not UTF-8 become U+FFFD."""
        said = [token for token in ids if token not in self._special and token < self.size]
        return self.bytes_of(said).decode("utf-8", "replace")

    def bytes_of(self, ids: Sequence[int]) -> bytes:
        """Return the bytes that ids spell, special tokens included."""
        return bytes(self.tables.decode_bytes(list(ids)))

    def _known(self, token: int) -> bool:
        return self.bytes_of([token]) != b"<[%d]>" % token  # llguidance's name for an id without a token


def _added_tokens(content: str) -> list[dict[str, Any]]:
    """Return the added tokens of a ``tokenizer.json``, without reading its 10 MB as JSON, which takes 200 MiB."""
    decoder = json.JSONDecoder()
    for found in re.finditer(r'"added_tokens"\s*:\s*(?=\[)', content):
        added: list[dict[str, Any]] = decoder.raw_decode(content, found.end())[0]
        return added
    return []
