"""Named bytes in a Mooncake Store, which several processes and machines share.

It needs the extra ``mooncake`` and a running master: ``mooncake_master --rpc_port=50051``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from typing_extensions import override

from assembler.errors import StorageError
from assembler.storage.blobs import BlobStore

_PREFIX = "kvpage/"
# Codes of Mooncake 0.3: the object is not there.
_NOT_FOUND = -704


@dataclass(frozen=True, slots=True, kw_only=True)
class MooncakeOptions:
    """Options of the backend, by the names that sglang has for them.

    Attributes:
        master_server_address: host and port of the master.
        local_hostname: address under which this process is reached.
        metadata_server: where clients find each other; ``P2PHANDSHAKE`` for no server.
        global_segment_size: bytes of memory that this process gives to the store.
        local_buffer_size: bytes of memory for transfers, at least the largest page.
        protocol: ``tcp`` or ``rdma``.
        device_name: RDMA devices.
    """

    master_server_address: str = "127.0.0.1:50051"
    local_hostname: str = "127.0.0.1"
    metadata_server: str = "P2PHANDSHAKE"
    global_segment_size: int = 1 << 30
    local_buffer_size: int = 1 << 28
    protocol: str = "tcp"
    device_name: str = ""

    @classmethod
    def of(cls, extra_config: Mapping[str, object]) -> Self:
        """Return the options among those of a storage tier.

        Raises:
            StorageError: an option has a value of another type.
        """
        given: dict[str, Any] = {}
        for field in fields(cls):
            value = extra_config.get(field.name, field.default)
            if type(value) is not type(field.default):
                expected = type(field.default).__name__
                rule = "a storage option must have its type"
                raise StorageError(field.name, rule, expected=expected, got=repr(value))
            given[field.name] = value
        return cls(**given)


class MooncakeBlobs(BlobStore):
    """Objects of a Mooncake Store; every call ends within the time-outs of its client."""

    backend = "mooncake"

    def __init__(self, options: MooncakeOptions) -> None:
        """Connect to the master.

        Raises:
            StorageError: the extra is not installed, or there is no master.
        """
        self._store = _store_class()()
        code = self._store.setup(
            options.local_hostname,
            options.metadata_server,
            options.global_segment_size,
            options.local_buffer_size,
            options.protocol,
            options.device_name,
            options.master_server_address,
        )
        if code != 0:
            rule, expected = "must be reachable", f"a master at {options.master_server_address}"
            raise StorageError("mooncake", rule, expected=expected, got=f"code {code}")

    @override
    def put(self, name: str, parts: Sequence[memoryview]) -> None:
        self._require(name, "must be stored", self._store.put_parts(_PREFIX + name, *parts))

    @override
    def get(self, name: str) -> memoryview | None:
        # Empty for an object that is not there; a page has a header and is never empty.
        return memoryview(self._store.get(_PREFIX + name)) or None

    @override
    def exists(self, name: str) -> bool:
        code = self._store.is_exist(_PREFIX + name)
        if code not in (0, 1):
            self._require(name, "must be looked for", code)
        return bool(code)

    @override
    def remove(self, name: str) -> None:
        # By force: a lease protects readers of a good page, and this page is a bad one.
        code = self._store.remove(_PREFIX + name, True)
        if code != _NOT_FOUND:
            self._require(name, "must be removed", code)

    @override
    def clear(self) -> None:
        pattern = f"^{re.escape(_PREFIX)}.*"
        code = self._store.remove_by_regex(pattern, force=True)
        self._require("every page", "must be removed", min(code, 0))

    @override
    def close(self) -> None:
        self._store.close()

    @staticmethod
    def _require(name: str, rule: str, code: int) -> None:
        if code != 0:
            raise StorageError(name, rule, expected="code 0", got=f"code {code}")


def _store_class() -> Any:  # noqa: ANN401 - a class without annotations
    """Return the client's class; raise StorageError where it cannot be imported."""
    try:
        from mooncake.store import MooncakeDistributedStore
    except ImportError as error:
        rule, expected = "must be installed", "the extra goldentrace[mooncake] and libibverbs1"
        raise StorageError("mooncake", rule, expected=expected, got=str(error)) from error
    return MooncakeDistributedStore
