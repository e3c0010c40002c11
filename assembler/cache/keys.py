"""Keys of a radix tree: the tokens of a prefix as bytes, which compare without a loop."""

from array import array
from collections.abc import Sequence

TOKEN_BYTES = 8
"""Bytes of one token id in a key."""


class RadixKey:
    """Tokens of a request, in a namespace.

    Attributes:
        data: the token ids, ``TOKEN_BYTES`` each.
        extra_key: sets apart requests with equal tokens, such as those of different adapters.

    Source: sglang 0.5.12 ``radix_cache.py`` (``RadixKey``), which keeps a list of numbers.
    """

    __slots__ = ("data", "extra_key")

    def __init__(self, token_ids: Sequence[int], extra_key: str | None = None) -> None:
        """Take the tokens; raise TypeError or OverflowError for what is no 64-bit number."""
        tokens = token_ids
        if not (isinstance(tokens, array) and tokens.typecode == "q"):
            tokens = array("q", token_ids)
        self.data = tokens.tobytes()
        self.extra_key = extra_key

    def __len__(self) -> int:
        return len(self.data) // TOKEN_BYTES


def token_ids(data: bytes) -> "array[int]":
    """Return the tokens of key bytes."""
    tokens = array("q")
    tokens.frombytes(data)
    return tokens


def shared_bytes(key: bytes, data: bytes, *, start: int, page_bytes: int) -> int:
    """Return how many leading bytes of ``key`` stand in ``data`` at ``start``, in whole pages.

    The caller knows that the first page is equal.
    """
    if data.startswith(key, start):
        return len(key)
    # The pages before `low` are equal, and those before `high` are not all equal, or do not exist.
    low, high = 1, min(len(key), len(data) - start) // page_bytes + 1
    while high - low > 1:
        middle = (low + high) // 2
        if data.startswith(key[low * page_bytes : middle * page_bytes], start + low * page_bytes):
            low = middle
        else:
            high = middle
    return low * page_bytes
