"""Validation of an assembled stack: it moves every declared byte, and nothing else.

Every rule compares the geometry that the device pools *declare* with the geometry that the host
pools compute on their own, so a row width lost on the way to a host pool shows here.
:func:`validation_disabled` switches the rules off for an experiment.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from assembler.device_pools.base import TokenKVPool
from assembler.errors import AssemblyError
from assembler.geometry import PlaneGeometry, PoolGeometry
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import HostPoolGroup, PoolEntry
from assembler.names import PoolName

_enabled: ContextVar[bool] = ContextVar("assembly_validation_enabled", default=True)


def validation_enabled() -> bool:
    """Return whether assembly checks are enforced in this context."""
    return _enabled.get()


@contextmanager
def validation_disabled() -> Iterator[None]:
    """Switch the assembly checks off for the duration of the block, in this context only.

    Tests and the mutation campaign use it to see the silent corruption of the ``kernel`` backend.
    """
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


def validate_stack(
    *,
    group: HostPoolGroup,
    declared: Sequence[PoolGeometry],
    page_size: int,
    transfer_layer_num: int,
) -> None:
    """Raise unless ``group`` mirrors everything declared, and nothing else, byte for byte.

    ``page_size`` and ``transfer_layer_num`` (stage-local layers of a load) are the controller's.

    Raises:
        AssemblyError: a declared buffer has no host pool; rows differ in bytes, shape, dtype or
            slots; a layer is left out; an entry mirrors nothing declared; page sizes differ.
    """
    if not validation_enabled():
        return
    for geometry in declared:
        entry = group.entry_map.get(geometry.pool)
        if entry is None:
            rule = "declared device buffer must have a host pool"
            raise AssemblyError(geometry.pool.name, rule, expected="an entry", got="none")
        _validate_mirror(
            subject=geometry.pool.name, device=geometry, host=entry.host_pool.geometry(entry.name)
        )
        _validate_layers(entry=entry, transfer_layer_num=transfer_layer_num)
    _validate_no_surplus(group=group, declared=declared)
    if page_size != group.page_size:
        rule = "host pages must be the controller's"
        raise AssemblyError("group", rule, expected=f"{page_size} tokens", got=group.page_size)


def validate_draft_pools(
    *,
    group: HostPoolGroup,
    device_pool: TokenKVPool,
    host_pool: HostKVCache,
    transfer_layer_num: int,
) -> None:
    """Raise unless a draft's host pool mirrors its device pool and can live on the anchor's slots.

    Raises:
        AssemblyError: rows differ; the draft declares more than its KV; pages or layouts differ
            from the anchor's; the pool is smaller than the anchor's; a layer is never loaded.
    """
    if not validation_enabled():
        return
    subject = PoolName.DRAFT.name
    kv, *others = (pool.geometry for pool in device_pool.mirrored())
    if others:
        rule = "declared device buffer must have a host pool"
        raise AssemblyError(f"{subject} {others[0].pool.name}", rule, expected="a pool", got="none")
    draft = replace(kv, pool=PoolName.DRAFT)
    _validate_mirror(subject=subject, device=draft, host=host_pool.geometry(PoolName.DRAFT))
    if (host_pool.page_size, host_pool.layout) != (group.page_size, group.layout):
        rule = "draft pages must be laid out like the anchor's"
        expected = f"{group.page_size} tokens {group.layout}"
        got = f"{host_pool.page_size} tokens {host_pool.layout}"
        raise AssemblyError(subject, rule, expected=expected, got=got)
    if host_pool.size < group.size:
        rule = "draft host pool must have every anchor slot"
        expected = f"{group.size} slots or more"
        raise AssemblyError(subject, rule, expected=expected, got=host_pool.size)
    if device_pool.layer_num > transfer_layer_num:
        rule, expected = "every draft layer must be loaded", f"{transfer_layer_num} layers or fewer"
        raise AssemblyError(subject, rule, expected=expected, got=device_pool.layer_num)


def _validate_mirror(*, subject: str, device: PoolGeometry, host: PoolGeometry) -> None:
    """Raise unless the host holds the device's planes, row for row, in as many layers."""
    device_names = [plane.name for plane in device.planes]
    host_names = [plane.name for plane in host.planes]
    _require(subject, "host planes must be the device's", device_names, host_names)
    for device_plane, host_plane in zip(device.planes, host.planes, strict=True):
        plane_subject = subject if len(device.planes) == 1 else f"{subject} {device_plane.name}"
        _validate_row(subject=plane_subject, device=device_plane, host=host_plane)
    rule = "a host row must serve the device's slots"
    _require(subject, rule, device.slots_per_row, host.slots_per_row)
    _require(subject, "host layers must equal device layers", device.layer_num, host.layer_num)


def _validate_row(*, subject: str, device: PlaneGeometry, host: PlaneGeometry) -> None:
    """Raise unless two rows agree in bytes, type and shape."""
    rule, expected = "host row must equal device row", f"{device.row_bytes} bytes"
    if host.row_bytes != device.row_bytes:
        raise AssemblyError(subject, rule, expected=expected, got=host.row_bytes)
    _require(subject, "host dtype must equal device dtype", device.dtype, host.dtype)
    rule = "host row shape must equal device row shape"
    _require(subject, rule, device.row_shape, host.row_shape)


def _validate_layers(*, entry: PoolEntry, transfer_layer_num: int) -> None:
    """Raise unless a load reaches each layer of the entry's pool exactly once."""
    mapped = map(entry.layer_mapper, range(transfer_layer_num))
    reached = sorted(layer for layer in mapped if layer is not None)
    every = list(range(entry.host_pool.layer_num))
    _require(entry.name.name, "a load must reach every layer once", every, reached)


def _validate_no_surplus(*, group: HostPoolGroup, declared: Sequence[PoolGeometry]) -> None:
    """Raise when an entry mirrors a buffer that no device pool declared."""
    declared_names = [geometry.pool for geometry in declared]
    for entry in group.entries:
        if entry.name not in declared_names:
            rule = "a host pool must have a declared device buffer"
            expected = f"one of {', '.join(name.name for name in declared_names)}"
            raise AssemblyError(entry.name.name, rule, expected=expected, got=entry.name.name)


def _require(subject: str, rule: str, expected: object, got: object) -> None:
    if expected != got:
        raise AssemblyError(subject, rule, expected=expected, got=got)
