"""Models of the client packages that storage backends of a release import.

Each is the part of a published client that a backend calls, over one :class:`ClientStore`. Sources
of their behaviour: the Python interfaces of Mooncake Store, Ascend MemCache, SiMM, boto3's S3, EIC,
NIXL and AIBrix KVCache, as the backends of the releases call them.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import torch
from typing_extensions import override

from traces.targets.sglang.storage.block_client import block_cache_members
from traces.targets.sglang.storage.client_store import ClientStore, MemorySpan
from traces.targets.sglang.storage.descriptor_clients import eic_members, nixl_members

_OK, _FAILED = 0, -1
# Pages of the probe with which a backend checks a new connection; its key has a random part.
_Probes = dict[str, bytes]


class MooncakeClient:
    """Client of Mooncake Store: pages by key, memory by address."""

    def __init__(self, store: ClientStore) -> None:
        self._store = store
        self._probes: _Probes = {}

    def setup(self, *settings: object, **_named: object) -> int:
        """Connect."""
        self._store.connect(settings)
        return _OK

    setup_dummy = init = setup

    def register_buffer(self, address: int, size: int) -> int:
        """Register memory of ``size`` bytes."""
        return _OK if self._store.register(MemorySpan(address=address, size=size)) else _FAILED

    def put(self, key: str, value: bytes) -> int:
        """Store a probe."""
        self._probes[key] = bytes(value)
        self._store.report_probe("store", key, self._probes[key])
        return _OK

    def get(self, key: str) -> bytes:
        """Return a probe."""
        self._store.report_probe("fetch", key, self._probes[key])
        return self._probes[key]

    def is_exist(self, key: str) -> int:
        """Return 1 for a stored probe, else 0."""
        self._store.report_probe("query", key, self._probes.get(key))
        return int(key in self._probes)

    def batch_is_exist(self, keys: Sequence[str]) -> list[int]:
        """Return 1 for each stored page, else 0."""
        return [int(self._store.has_page(key)) for key in keys]

    def batch_put_from(
        self,
        keys: Sequence[str],
        addresses: Sequence[int],
        sizes: Sequence[int],
        *_settings: object,
    ) -> list[int]:
        """Store one piece of memory a key; return 0 for each that was stored."""
        pieces = [[one] for one in addresses], [[one] for one in sizes]
        return self.batch_put_from_multi_buffers(keys, *pieces)

    def batch_put_from_multi_buffers(
        self,
        keys: Sequence[str],
        addresses: Sequence[Sequence[int]],
        sizes: Sequence[Sequence[int]],
        *_settings: object,
    ) -> list[int]:
        """Store several pieces of memory a key; return 0 for each key that was stored."""
        self._store.require_distinct(keys)
        return [
            _OK if self._store.put(key, _spans(own, lengths)) else _FAILED
            for key, own, lengths in zip(keys, addresses, sizes, strict=True)
        ]

    def batch_get_into(
        self, keys: Sequence[str], addresses: Sequence[int], sizes: Sequence[int]
    ) -> list[int]:
        """Copy one page a key; return the bytes read of each, -1 for one that was not."""
        pieces = [[one] for one in addresses], [[one] for one in sizes]
        return self.batch_get_into_multi_buffers(keys, *pieces)

    def batch_get_into_multi_buffers(
        self,
        keys: Sequence[str],
        addresses: Sequence[Sequence[int]],
        sizes: Sequence[Sequence[int]],
    ) -> list[int]:
        """Copy one page a key into several pieces of memory."""
        self._store.require_distinct(keys)
        found = [
            self._store.get(key, _spans(own, lengths))
            for key, own, lengths in zip(keys, addresses, sizes, strict=True)
        ]
        return [_FAILED if size is None else size for size in found]

    def remove_all(self) -> None:
        """Forget every page."""
        self._store.clear()

    def close(self) -> None:
        """Disconnect."""


class MemcacheClient(MooncakeClient):
    """Client of Ascend MemCache: it reports 0, not a size, for a page that was read."""

    @override
    def batch_get_into(
        self, keys: Sequence[str], addresses: Sequence[int], sizes: Sequence[int]
    ) -> list[int]:
        found = super().batch_get_into(keys, addresses, sizes)
        return [_FAILED if size == _FAILED else _OK for size in found]


class SimmBlock:
    """Memory that the SiMM client allocates."""

    def __init__(self, size: int) -> None:
        self.memory = torch.zeros(size, dtype=torch.uint8)

    def as_ref(self) -> torch.Tensor:
        """Return the memory as a tensor."""
        return self.memory

    def view(self) -> "SimmBlock":
        """Return what the client's operations take."""
        return self


class SimmClient:
    """Client of SiMM: pages by key, views of registered memory."""

    def __init__(self, store: ClientStore) -> None:
        self._store = store
        self._probes: _Probes = {}

    def allocate(self, size: int) -> SimmBlock:
        """Return memory of the client."""
        return SimmBlock(size)

    def put(self, key: str, view: SimmBlock) -> int:
        """Store a probe."""
        self._probes[key] = view.memory.numpy().tobytes()
        self._store.report_probe("store", key, self._probes[key])
        return _OK

    def exists(self, key: str) -> bool:
        """Return whether a probe is stored."""
        self._store.report_probe("query", key, self._probes.get(key))
        return key in self._probes

    def get(self, key: str, view: SimmBlock) -> int:
        """Copy a probe; return its size."""
        self._store.report_probe("fetch", key, self._probes[key])
        view.memory.copy_(torch.frombuffer(bytearray(self._probes[key]), dtype=torch.uint8))
        return view.memory.nbytes

    def mput(self, keys: Sequence[str], views: Sequence[MemorySpan]) -> list[int]:
        """Store a page a key; return 0 for each that was stored."""
        self._store.require_distinct(keys)
        return [
            _OK if self._store.put(key, [view]) else _FAILED
            for key, view in zip(keys, views, strict=True)
        ]

    def mget(self, keys: Sequence[str], views: Sequence[MemorySpan]) -> list[int]:
        """Copy a page a key; return the bytes read of each, -1 for one that was not."""
        found = [self._store.get(key, [view]) for key, view in zip(keys, views, strict=True)]
        return [_FAILED if size is None else size for size in found]

    def mexists(self, keys: Sequence[str]) -> list[bool]:
        """Return whether each page is stored."""
        return [self._store.has_page(key) for key in keys]


class S3Error(Exception):
    """Error of the S3 client; the response has its code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


class S3Client:
    """Client of an S3 service with one bucket."""

    exceptions = SimpleNamespace(ClientError=S3Error)

    def __init__(self, store: ClientStore) -> None:
        self._store = store

    def head_bucket(self, **_named: object) -> None:
        """Return: the bucket is there."""

    def put_object(self, *, Key: str, Body: bytes, **_named: object) -> None:  # noqa: N803
        """Store an object."""
        self._store.put_bytes(Key, bytes(Body))

    def get_object(self, *, Key: str, **_named: object) -> dict[str, Any]:  # noqa: N803
        """Return an object.

        Raises:
            S3Error: there is none.
        """
        page = self._store.get_bytes(Key)
        if page is None:
            raise S3Error("NoSuchKey")
        return {"Body": SimpleNamespace(read=lambda: page)}

    def head_object(self, *, Key: str, **_named: object) -> None:  # noqa: N803
        """Return: the object is there.

        Raises:
            S3Error: there is none.
        """
        if not self._store.has_page(Key):
            raise S3Error("404")


def _mooncake(store: ClientStore) -> dict[str, dict[str, Any]]:
    return {
        "mooncake": {},
        "mooncake.store": {
            "MooncakeDistributedStore": lambda: MooncakeClient(store),
            "ReplicateConfig": SimpleNamespace,
        },
    }


def _memcache(store: ClientStore) -> dict[str, dict[str, Any]]:
    own = {"DistributedObjectStore": lambda: MemcacheClient(store), "LocalConfig": SimpleNamespace}
    return {"memcache_hybrid": own}


def _simm(store: ClientStore) -> dict[str, dict[str, Any]]:
    def register(tensor: torch.Tensor) -> object:
        span = MemorySpan(address=tensor.data_ptr(), size=tensor.nbytes)
        return uuid.UUID(int=0) if store.register(span) else None

    def from_buffer(address: int, size: int, _region: object) -> MemorySpan:
        return MemorySpan(address=address, size=size)

    parts = {
        "Store": lambda: SimmClient(store),
        "BlockView": SimpleNamespace(from_buffer=from_buffer),
        "register_mr": register,
        "set_flag": lambda *_setting: None,
    }
    return {"simm": {}, "simm.kv": parts}


def _s3(store: ClientStore) -> dict[str, dict[str, Any]]:
    client = {"client": lambda *_service, **_named: S3Client(store)}
    return {"boto3": client, "botocore": {}, "botocore.config": {"Config": SimpleNamespace}}


CLIENT_MODELS: Mapping[str, Callable[[ClientStore], dict[str, dict[str, Any]]]] = {
    "mooncake": _mooncake,
    "memcache_hybrid": _memcache,
    "simm": _simm,
    "boto3": _s3,
    "eic": lambda store: {"eic": eic_members(store)},
    "nixl": lambda store: {"nixl": {}, "nixl._api": nixl_members(store)},
    "aibrix_kvcache": block_cache_members,
    # A server of metadata that a backend imports beside its local metadata.
    "fastapi": lambda _: {
        "fastapi": dict.fromkeys(("FastAPI", "HTTPException", "Request", "Response"), MagicMock),
        "fastapi.responses": {"ORJSONResponse": MagicMock},
    },
}
"""The members of the modules of each modelled package, by its name."""


@contextmanager
def client_packages(store: ClientStore) -> Iterator[None]:
    """Have every modelled package importable while the block runs."""
    modules: dict[str, ModuleType] = {}
    for model in CLIENT_MODELS.values():
        for name, members in model(store).items():
            modules[name] = ModuleType(name)
            vars(modules[name]).update(members)
    with patch.dict("sys.modules", modules):
        yield


def _spans(addresses: Sequence[int], sizes: Sequence[int]) -> list[MemorySpan]:
    return [
        MemorySpan(address=address, size=size)
        for address, size in zip(addresses, sizes, strict=True)
    ]
