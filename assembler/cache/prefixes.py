"""Parameters and results of the operations of a prefix cache.

Source: sglang 0.5.12 ``base_prefix_cache.py``; a match gives lengths and nodes as 0.5.23 does.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from assembler.cache.keys import RadixKey
from assembler.cache.nodes import CacheNode


@dataclass(frozen=True, slots=True)
class MatchPrefixParams:
    """The tokens whose longest cached prefix is asked for."""

    key: RadixKey


class MatchResult(NamedTuple):
    """The longest cached prefix of a key.

    Attributes:
        device_prefix_len: tokens that the device serves without a load.
        host_hit_length: tokens behind them that a load would bring back; 1 where a load would only
            bring back a window or a state.
        last_device_node: the node at the end of the former; the root for no token.
        last_host_node: the last node on the way to ``best_match_node`` that the host has.
        best_match_node: the node at the end of both, for ``load_back``; the root for no token.
    """

    device_prefix_len: int
    host_hit_length: int
    last_device_node: CacheNode
    last_host_node: CacheNode
    best_match_node: CacheNode


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InsertParams:
    """Tokens and the slots that hold them, which the cache takes over.

    Attributes:
        key: the tokens; those after the last whole page are passed over, and so are their slots.
        value: ``(slots,) int64`` device slots of the full KV, one for each token.
        mamba_value: ``(1,) int64`` state slot after the last token; None without one.
        prev_prefix_len: tokens at the front whose slots are the cache's already, from a match that
            the caller still holds a lock on.
        swa_evicted_seqlen: tokens at the front that have no window slots any more.
    """

    key: RadixKey
    value: torch.Tensor
    mamba_value: torch.Tensor | None = None
    prev_prefix_len: int = 0
    swa_evicted_seqlen: int = 0


class InsertResult(NamedTuple):
    """Result of an insertion.

    Attributes:
        prefix_len: tokens that were cached already. The caller's slots of those that the cache did
            not need are free again.
        mamba_exist: whether the state was cached already: its slot is still the caller's.
        last_device_node: the node at the end of the tokens; the root for no whole page.
    """

    prefix_len: int
    mamba_exist: bool
    last_device_node: CacheNode


class DecLockRefParams(NamedTuple):
    """The lock to undo: ``window_tokens`` last tokens whose windows it keeps."""

    window_tokens: int


class IncLockRefResult(NamedTuple):
    """A lock on a prefix, to be given back."""

    window_tokens: int

    def to_dec_params(self) -> DecLockRefParams:
        """Return what :meth:`dec_lock_ref` needs to undo this lock."""
        return DecLockRefParams(window_tokens=self.window_tokens)
