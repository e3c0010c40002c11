"""Hash of token ids in Python; the release's own needs a compiler when it is first used.

Source of its behaviour: sglang ``srt/mem_cache/cpp_utils/hash_binding.cpp`` (0.5.15 and later), and
``get_hash_str`` of earlier releases, which has no compiled part and gives the same keys.
"""

import hashlib
from collections.abc import Sequence

_TOKEN_BYTES = 4


class TokenHash:
    """Replacement of the extension module, for tokens that are single numbers."""

    @staticmethod
    def get_hash(
        raw: Sequence[int],
        length: int,
        unit_width: int,
        is_bigram: bool,  # noqa: FBT001
        prior: bytes | None,
        page_size: int | None,
    ) -> str | list[str]:
        """Return the chained SHA-256 of tokens, or of each of their pages, in hex digits.

        ``length`` tokens count; ``prior`` is the digest of what lies before them.

        Raises:
            ValueError: tokens are not single numbers.
        """
        if unit_width != 1 or is_bigram:
            raise ValueError(f"tokens: must be single numbers; expected width 1, got {unit_width}")
        if page_size is None:
            return _digest(raw[:length], prior).hex()
        found: list[str] = []
        for first in range(0, length, page_size):
            prior = _digest(raw[first : min(first + page_size, length)], prior)
            found.append(prior.hex())
        return found


def _digest(tokens: Sequence[int], prior: bytes | None) -> bytes:
    hasher = hashlib.sha256(prior or b"")
    for token in tokens:
        hasher.update(token.to_bytes(_TOKEN_BYTES, "little"))
    return hasher.digest()
