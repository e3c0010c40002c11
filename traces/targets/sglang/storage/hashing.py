"""Hash of token ids in Python; the release's own needs a compiler when it is first used.

Source of its behaviour: sglang ``srt/mem_cache/cpp_utils/hash_binding.cpp`` (0.5.15 and later), and
``get_hash_str`` of earlier releases, which has no compiled part and gives the same keys.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

_EXTENSION = "hicache_hash_cpp"
_TOKEN_BYTES = 4


class TokenHash:
    """Replacement of the extension module."""

    @staticmethod
    def get_hash(
        raw: Sequence[int],
        length: int,
        unit_width: int,
        is_bigram: bool,  # noqa: FBT001
        prior: bytes | None,
        page_size: int | None,
    ) -> str | list[str]:
        """Return the chained SHA-256 of units, or of each of their pages, in hex digits.

        ``length`` units of ``unit_width`` numbers count; those of bigrams overlap by one number.
        ``prior`` is the digest of what lies before them.
        """
        step = 1 if is_bigram else unit_width
        units = [raw[step * number : step * number + unit_width] for number in range(length)]
        if page_size is None:
            return _digest(units, prior).hex()
        found: list[str] = []
        for first in range(0, length, page_size):
            prior = _digest(units[first : first + page_size], prior)
            found.append(prior.hex())
        return found


def load_token_hash(load: Callable[..., Any], name: str, *values: Any, **named: Any) -> Any:  # noqa: ANN401
    """Return :class:`TokenHash` for the extension of keys; call ``load`` for any other."""
    return TokenHash if name == _EXTENSION else load(name, *values, **named)


def _digest(units: Iterable[Sequence[int]], prior: bytes | None) -> bytes:
    hasher = hashlib.sha256(prior or b"")
    for token in chain.from_iterable(units):
        hasher.update(token.to_bytes(_TOKEN_BYTES, "little"))
    return hasher.digest()
