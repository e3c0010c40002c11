"""Hashes of pages of tokens, each chained to the page before it."""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from assembler.errors import StorageError

Token: TypeAlias = int | tuple[int, int]
"""An id, or a pair of neighbouring ids where a draft model looks at two tokens at once."""


def page_hashes(tokens: Sequence[Token], *, page_size: int, last_hash: str | None) -> list[str]:
    """Return the hash of every whole page, 64 hex digits each; a partial page at the end has none.

    A hash is the SHA-256 of the raw digest of the page before it and of the page's token ids, four
    bytes each, little-endian.

    Args:
        tokens: token ids.
        page_size: tokens of a page.
        last_hash: hash of the page before the first token; None at the start of a sequence.

    Raises:
        StorageError: an id does not fit in four bytes.

    Source: sglang 0.5.12 ``mem_cache/utils.py:426-441``.
    """
    prior = b"" if last_hash is None else bytes.fromhex(last_hash)
    hashes = []
    for start in range(0, len(tokens) - page_size + 1, page_size):
        prior = hashlib.sha256(prior + _packed(tokens[start : start + page_size])).digest()
        hashes.append(prior.hex())
    return hashes


def _packed(tokens: Iterable[Token]) -> bytes:
    ids = [one for token in tokens for one in (token if isinstance(token, tuple) else (token,))]
    try:
        return struct.pack(f"<{len(ids)}I", *ids)
    except struct.error:
        rule, got = "must fit in four bytes", [one for one in ids if not 0 <= one < 1 << 32]
        raise StorageError("token id", rule, expected="0 to 4294967295", got=got) from None
