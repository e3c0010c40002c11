"""Models of clients that take lists of descriptors: EIC and NIXL.

A descriptor is an address and a size, or a key. See :mod:`traces.targets.sglang.storage.clients`.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import torch

from traces.targets.sglang.storage.client_store import ClientStore, MemorySpan

_NIXL_PLUGIN = "OBJ"
_MEMORY = "DRAM"
_DONE = "DONE"


class EicStatus(IntEnum):
    """Status codes of EIC."""

    SUCCESS = 0
    FAILED = 1
    PARTIAL_FAILED = 2


class EicBuffers:
    """Addresses with sizes, in order."""

    def __init__(self) -> None:
        self.spans: list[MemorySpan] = []

    def append(self, address: int, size: int, is_registered: bool) -> None:  # noqa: FBT001
        """Add memory; whether it was registered before is up to the caller."""
        del is_registered
        self.spans.append(MemorySpan(address=address, size=size))


class EicClient:
    """Client of EIC: pages by key in a namespace."""

    def __init__(self, store: ClientStore) -> None:
        self._store = store

    def init(self, *_settings: object) -> int:
        """Connect."""
        return 0

    def register_memory(self, buffers: EicBuffers, _info: object) -> None:
        """Register memory."""
        for span in buffers.spans:
            self._store.register(span)

    def mexist(self, keys: Sequence[str], option: Any) -> tuple[EicStatus, Any]:  # noqa: ANN401
        """Look for keys; probes of a new connection have no namespace and are not there."""
        if not hasattr(option, "ns"):
            return EicStatus.SUCCESS, _outcome([False] * len(keys))
        found = [self._store.has_page(f"{option.ns}{key}") for key in keys]
        return EicStatus.SUCCESS, _outcome(found)

    def mset(
        self,
        keys: Sequence[str],
        buffers: EicBuffers,
        option: Any,  # noqa: ANN401
    ) -> tuple[EicStatus, Any]:
        """Store a page a key."""
        self._store.require_distinct(keys)
        pairs = zip(keys, buffers.spans, strict=True)
        return _status([self._store.put(f"{option.ns}{key}", [span]) for key, span in pairs])

    def mget(
        self,
        keys: Sequence[str],
        option: Any,  # noqa: ANN401
        buffers: EicBuffers,
    ) -> tuple[EicStatus, EicBuffers, Any]:
        """Copy a page a key into memory."""
        pairs = zip(keys, buffers.spans, strict=True)
        found = [self._store.get(f"{option.ns}{key}", [span]) is not None for key, span in pairs]
        status, outcome = _status(found)
        return status, buffers, outcome


def _status(done: list[bool]) -> tuple[EicStatus, Any]:
    every = EicStatus.SUCCESS if all(done) else EicStatus.PARTIAL_FAILED
    return every, _outcome(done)


def _outcome(done: Iterable[bool]) -> Any:  # noqa: ANN401
    codes = [EicStatus.SUCCESS if one else EicStatus.FAILED for one in done]
    return SimpleNamespace(status_codes=codes)


def eic_members(store: ClientStore) -> dict[str, Any]:
    """Return the members of the module ``eic``."""
    return {
        "Client": lambda: EicClient(store),
        "StringVector": list,
        "IOBuffers": EicBuffers,
        "MemoryInfo": SimpleNamespace,
        "MemoryType": SimpleNamespace(MEMORY_CUDA=0),
        "InitOption": SimpleNamespace,
        "ExistOption": SimpleNamespace,
        "SetOption": SimpleNamespace,
        "GetOption": SimpleNamespace,
        "LogLevel": int,
        "TransportType": int,
        "StatusCode": EicStatus,
    }


class NixlDescriptors(list[tuple[Any, ...]]):
    """Descriptors ``(address, size, device[, key])``."""

    def trim(self) -> "NixlDescriptors":
        """Return the descriptors of a transfer."""
        return self


class NixlAgent:
    """Agent of NIXL with the plug-in for objects: a device number stands for a key.

    Older releases hand the key over in place of the number, and tensors in place of addresses.
    """

    def __init__(self, store: ClientStore, *_settings: object) -> None:
        self._store = store
        self._keys: dict[object, str] = {}
        self.agent: Any = None
        self.plugin_list: list[str] = []

    def get_plugin_list(self) -> list[str]:
        """Return the names of the plug-ins."""
        return [_NIXL_PLUGIN]

    def get_backend_params(self, _plugin: str) -> dict[str, str]:
        """Return the settings of a plug-in."""
        return {}

    def create_backend(self, *_settings: object) -> None:
        """Load the plug-in."""

    def get_reg_descs(
        self, items: Iterable[Any], mem_type: str | None = None
    ) -> tuple[str, NixlDescriptors]:
        """Return descriptors with their type of memory."""
        described = (
            (item.data_ptr(), item.nbytes, 0, "") if isinstance(item, torch.Tensor) else item
            for item in ([items] if isinstance(items, torch.Tensor) else items)
        )
        return mem_type or _MEMORY, NixlDescriptors(described)

    get_xfer_descs = get_reg_descs

    def register_memory(self, described: tuple[str, NixlDescriptors]) -> tuple[str, Any]:
        """Register memory, or the keys of objects by their device number."""
        mem_type, items = described
        for address, size, device, key in items:
            if mem_type == _MEMORY:
                self._store.register(MemorySpan(address=address, size=size))
            else:
                self._keys[device] = key or str(device)
        return described

    def deregister_memory(self, described: tuple[str, NixlDescriptors]) -> None:
        """Forget keys of objects; memory stays registered to the end of the store."""
        mem_type, items = described
        for *_, device, _key in items if mem_type != _MEMORY else ():
            self._keys.pop(device, None)

    def query_memory(
        self, items: Iterable[tuple[Any, ...]], *_settings: object, **_named: object
    ) -> list[object | None]:
        """Return something for each object that is stored, else None."""
        keys = [key or str(device) for _, _, device, key in items]
        return [{} if self._store.has_page(key) else None for key in keys]

    def initialize_xfer(
        self,
        direction: str,
        host: tuple[str, NixlDescriptors],
        storage: tuple[str, NixlDescriptors],
        _agent: str,
    ) -> list[bool]:
        """Move every page at once; the request has whether each was moved."""
        spans = [MemorySpan(address=item[0], size=item[1]) for item in host[1]]
        keys = [self._keys[item[2]] for item in storage[1]]
        self._store.require_distinct(keys)
        if direction == "WRITE":
            return [self._store.put(key, [span]) for key, span in zip(keys, spans, strict=True)]
        return [
            self._store.get(key, [span]) is not None for key, span in zip(keys, spans, strict=True)
        ]

    def transfer(self, request: list[bool]) -> str:
        """Return the state of a transfer."""
        return _DONE if all(request) else "ERR"

    check_xfer_state = transfer

    def release_xfer_handle(self, _request: list[bool]) -> None:
        """Forget a transfer."""


def nixl_members(store: ClientStore) -> dict[str, Any]:
    """Return the members of the module ``nixl._api``."""
    plugins = SimpleNamespace(getAvailPlugins=lambda: [_NIXL_PLUGIN])
    settings = {"enable_pthread": True, "enable_listen": False, "port": 0}
    return {
        "nixl_agent": lambda *settings: NixlAgent(store, *settings),
        "nixl_agent_config": lambda **_: SimpleNamespace(**settings, capture_telemetry=False),
        "nixlBind": SimpleNamespace(
            NIXL_THREAD_SYNC_RW=0,
            NIXL_THREAD_SYNC_STRICT=1,
            nixlAgentConfig=SimpleNamespace,
            nixlAgent=lambda *_: plugins,
        ),
    }
