"""Client of a release's tree: keys, parameters and requests in the release's own types."""

import dataclasses
import inspect
from array import array
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import torch

from traces.targets.sglang.assembly import entries_of
from traces.targets.sglang.discovery import find_class
from traces.targets.sglang.signature_caller import SignatureCaller

EVICT_ALL = 1 << 20
"""More slots than any pool of a scenario has."""


class TreeRequest:
    """The fields of a request that trees read, its KV record included.

    Later releases keep some of these fields in ``req.kv``, earlier ones in the request itself.
    State slots are ``() int64``: its own, and the one that its forward pass copies first.
    """

    def __init__(self, rid: str) -> None:
        self.rid = rid
        self.kv = self
        self.last_node: Any = None
        self.prefix_indices: torch.Tensor | None = None
        self.prefix_len = 0
        self.cache_protected_len = 0
        self.extra_key: str | None = None
        self.cache_salt: str | None = None
        self.session = self.session_id = None
        self.req_pool_idx: int | None = None
        self.seqlen = 0
        self.host_hit_length = self.swa_host_hit_length = self.mamba_host_hit_length = 0
        self.swa_evicted_seqlen = 0
        # Of what was prefetched for it and waits until it is admitted.
        self.cache_request_handle: Any = None
        self.staged_prefetch_plan: Any = None
        self.storage_hit_length = self.host_loaded_length = 0
        self.storage_hit_start: int | None = None
        self.host_hit_is_storage = False
        self.mamba_pool_idx: torch.Tensor | None = None
        self.mamba_cow_src_index: torch.Tensor | None = None
        self.mamba_needs_clear = False
        self.mamba_ping_pong_track_buffer = self.mamba_last_track_seqlen = None

    @property
    def holds_mamba(self) -> bool:
        """True where the request has a state slot of its own."""
        return self.mamba_pool_idx is not None

    @property
    def needs_load_back(self) -> bool:
        """True where the host has something for it; a scheduler loads back for no other request."""
        hits = (self.host_hit_length, self.swa_host_hit_length, self.mamba_host_hit_length)
        return any(hit > 0 for hit in hits)

    def take_match(self, match: Any) -> None:  # noqa: ANN401 - the release's own class
        """Copy the fields of a match, as schedulers do."""
        self.last_node = match.last_device_node
        for name in ("host_hit_length", "swa_host_hit_length", "mamba_host_hit_length"):
            setattr(self, name, getattr(match, name, 0))
        self.prefix_indices = getattr(match, "device_indices", None)

    def states_taken(self) -> list[torch.Tensor]:
        """Return the state slots that are its own, ``(1,) int64`` each."""
        return [] if self.mamba_pool_idx is None else [self.mamba_pool_idx.reshape(1)]

    def states(self) -> list[torch.Tensor]:
        """Return the state slots that its forward pass can read, ``(1,) int64`` each."""
        known = (
            self.mamba_pool_idx if self.mamba_cow_src_index is None else self.mamba_cow_src_index
        )
        return [] if known is None else [known.reshape(1)]


def salt_of(namespace: str | None) -> str | None:
    """Return what sets the requests of a namespace apart beside its key; None for no namespace."""
    return None if namespace is None else f"{namespace}'s salt"


class TreeClient:
    """Calls a tree of the release.

    Attributes:
        has_pairs: whether the units of its keys, one a slot, are pairs of neighbouring tokens.
    """

    def __init__(self, cache: Any) -> None:  # noqa: ANN401 - a cache of the release
        self._cache = cache
        self._caller = SignatureCaller()
        # Trees beside a draft of EAGLE match pairs of tokens; not all of them that are told so do.
        core = getattr(cache, "tree_core", cache)
        self.has_pairs = bool(getattr(core, "is_eagle", getattr(cache, "is_eagle", False)))

    def key(self, tokens: list[int], namespace: str | None, *, limit: int | None = None) -> Any:  # noqa: ANN401
        """Return a key of tokens in a namespace, in the release's own class.

        A key with a limit stands for so many of its tokens, the first ones.
        """
        given = {
            "token_ids": self.tokens(tokens),
            "extra_key": namespace,
            "cache_salt": salt_of(namespace),
            "limit": limit,
        }
        return self._caller.call(find_class("RadixKey"), given)

    @staticmethod
    def has_limits() -> bool:
        """Return whether a key may have more tokens than it stands for."""
        return "limit" in inspect.signature(find_class("RadixKey")).parameters

    @staticmethod
    def tokens(tokens: list[int]) -> Any:  # noqa: ANN401 - the release's own choice
        """Return tokens in the container that the release takes."""
        kind = str(inspect.signature(find_class("RadixKey")).parameters["token_ids"].annotation)
        return array("q", tokens) if "array" in kind else tokens

    def match(self, key: Any, request: TreeRequest | None) -> Any:  # noqa: ANN401
        """Match a key; with a request, its states are copied on write."""
        given = {"key": key, "cow_mamba": request is not None, "req": request}
        return self._cache.match_prefix(self._params("MatchPrefixParams", given))

    def device_slots(self, match: Any) -> torch.Tensor:  # noqa: ANN401
        """Return the KV slots of a match, token by token."""
        found: torch.Tensor | None = getattr(match, "device_indices", None)
        if found is None:
            found = self._cache.path_device_indices(match.last_device_node)
            found = found[: match.device_prefix_len]
        return found

    def insert(
        self, key: object, slots: torch.Tensor, states: torch.Tensor | None, *, known: int
    ) -> Any:  # noqa: ANN401
        """Insert tokens with their slots; the tree owns the first ``known`` ones already."""
        given = {"key": key, "value": slots, "mamba_value": states, "prev_prefix_len": known}
        return self._cache.insert(self._params("InsertParams", given))

    def evict(self, tokens: int, states: int, *, windows: int | None = None) -> dict[str, int]:
        """Free the device slots of tokens and states; return what the tree counts, by its names.

        ``windows`` are tokens whose window slots are freed; the same number as of tokens if None.
        """
        windows = tokens if windows is None else windows
        given = {"num_tokens": tokens, "swa_num_tokens": windows, "mamba_num": states}
        result = self._cache.evict(self._params("EvictParams", given))
        fields = dataclasses.fields(result) if dataclasses.is_dataclass(result) else ()
        found = {field.name: getattr(result, field.name) for field in fields}
        return {name: value for name, value in found.items() if isinstance(value, int) and value}

    def load_back(self, match: Any, request: TreeRequest) -> None:  # noqa: ANN401
        """Queue the load of a match's host part, and start it."""
        node = getattr(match, "best_match_node", None)
        node = match.last_host_node if node is None else node
        given = {
            "best_match_node": node,
            "last_host_node": node,
            "host_hit_length": match.host_hit_length,
            "mem_quota": None,
            "req": request,
        }
        self._cache.init_load_back(self._params("InitLoadBackParams", given))
        self._cache.ready_to_load_host_cache()

    def poll(self) -> None:
        """Trigger deferred work and process finished work of the tree, as schedulers do.

        Pipeline rank 0 counts finished operations itself; other ranks receive the number from the
        rank before them, which does not run here.
        """
        cache, is_later = self._cache, getattr(self._cache, "pp_rank", 0)
        with patch.object(cache, "pp_rank", 0) if is_later else nullcontext():
            cache.check_hicache_events()

    def _params(self, name: str, given: dict[str, Any]) -> Any:  # noqa: ANN401
        return self._caller.call(find_class(name), given)


def evict_host(cache: Any, group: Any) -> None:  # noqa: ANN401 - of the release
    """Ask a tree to free every host slot, through the callbacks of the pool entries."""
    callbacks = [
        function
        for entry in entries_of(group).values()
        if callable(function := getattr(entry, "host_evict_fn", None))
    ]
    for function in callbacks or [cache.evict_host]:
        function(EVICT_ALL)
