"""Model of AIBrix KVCache: blocks of tokens by their hashes, in memory of the client.

See :mod:`traces.targets.sglang.storage.clients`.
"""

from collections.abc import Sequence
from math import prod
from types import SimpleNamespace
from typing import Any

import torch

from traces.targets.sglang.storage.client_store import ClientStore

_K_AND_V = 2


class BlockHandle:
    """Blocks that are being written or read."""

    def __init__(self, blocks: list[torch.Tensor]) -> None:
        self._blocks = blocks

    def to_tensors(self) -> list[torch.Tensor]:
        """Return the blocks."""
        return self._blocks

    def release(self) -> None:
        """Give the blocks up."""


class BlockManager:
    """Blocks of the shape that a configuration gives; each key is that of one block."""

    def __init__(self, store: ClientStore, config: Any) -> None:  # noqa: ANN401
        self._store = store
        self._spec = config.block_spec
        self.metrics = SimpleNamespace(summary=lambda: "", reset=lambda: None)

    def exists(self, _prefix: object, hashes: Any) -> Any:  # noqa: ANN401
        """Return the tokens of the leading blocks that are stored."""
        there = [self._store.has_page(self._key(key)) for key in hashes.keys]
        blocks = there.index(False) if False in there else len(there)
        return _status(blocks * self._spec.block_ntokens if blocks else None)

    def acquire(self, _prefix: object, hashes: Any) -> Any:  # noqa: ANN401
        """Return the leading blocks that are stored."""
        found: list[torch.Tensor] = []
        for key in hashes.keys:
            page = self._store.get_bytes(self._key(key))
            if page is None:
                break
            found.append(torch.frombuffer(bytearray(page), dtype=self._spec.block_dtype))
        tokens = len(found) * self._spec.block_ntokens
        return _status((tokens, BlockHandle(found)) if found else None)

    def allocate_for(self, _prefix: object, hashes: Any) -> Any:  # noqa: ANN401
        """Return new blocks."""
        tensor = self._spec.tensor_spec
        shape = (self._spec.block_ntokens, _K_AND_V, len(tensor.layers), len(tensor.heads))
        width = prod(shape) * tensor.head_size
        blocks = [torch.empty(width, dtype=self._spec.block_dtype) for _ in hashes.keys]
        return _status(BlockHandle(blocks))

    def put(self, _prefix: object, hashes: Any, handle: BlockHandle) -> Any:  # noqa: ANN401
        """Store blocks; return their tokens."""
        self._store.require_distinct(list(hashes.keys))
        for key, block in zip(hashes.keys, handle.to_tensors(), strict=True):
            self._store.put_bytes(self._key(key), block.view(torch.uint8).numpy().tobytes())
        return _status(len(hashes.keys) * self._spec.block_ntokens)

    def _key(self, key: str) -> str:
        """Return a key with what the client adds: shape, dtype, heads and layers of a block."""
        tensor = self._spec.tensor_spec
        dtype = str(self._spec.block_dtype).removeprefix("torch.")
        heads, layers = _span(tensor.heads), _span(tensor.layers)
        tokens = self._spec.block_ntokens
        return f"{key}@{tokens}x{tensor.head_size}_{dtype}_h{heads}_l{layers}"


def _span(numbers: Sequence[int]) -> str:
    return f"{min(numbers)}-{max(numbers)}" if len(numbers) else ""


def _status(value: object) -> Any:  # noqa: ANN401
    """Return the client's status: an error without a value."""
    return SimpleNamespace(is_ok=lambda: value is not None, value=value, error_code="missing")


def block_cache_members(store: ClientStore) -> dict[str, dict[str, Any]]:
    """Return the members of the modules of ``aibrix_kvcache``."""

    def hashes(keys: Sequence[str], _tokens: int) -> Any:  # noqa: ANN401
        return SimpleNamespace(keys=tuple(keys))

    def layout(name: object) -> object:
        return name

    vars(layout)["NCLD"] = "NCLD"
    own = {
        "BaseKVCacheManager": lambda config: BlockManager(store, config),
        "BlockHashes": hashes,
        "KVCacheBlockLayout": layout,
        "KVCacheBlockSpec": SimpleNamespace,
        "KVCacheConfig": SimpleNamespace,
        "KVCacheTensorSpec": SimpleNamespace,
        "ModelSpec": lambda _: None,
    }
    logging = {"log_every_n_seconds": lambda *_: None}
    return {
        "aibrix_kvcache": own,
        "aibrix_kvcache.common": {},
        "aibrix_kvcache.common.absl_logging": logging,
    }
