"""Reports of a storage backend's operations, with keys that are equal in every process."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from traces.recording.probes import StorageObservation, Values
from traces.schema.storage_records import StorageOperation

_HASH = re.compile(r"[0-9a-f]{32,}")
_HASH_DIGITS = 16
_DIGEST_DIGITS = 16
_POOL_SETTINGS = ("layout", "dtype", "page_size", "size_per_token")


def report_storage_use(
    *,
    operation: StorageOperation,
    pool: str,
    key: str,
    size: int = 0,
    backend: str = "",
    sha256: str = "",
) -> None:
    """Do nothing: the recorder observes the call as a storage operation.

    Args:
        operation: see :class:`traces.schema.model.StorageAccess`.
        pool: upper-case pool name; empty for ``open``, and where a backend knows keys only.
        key: of the page, see :func:`short_key`; for ``open`` the settings, or the memory that a
            client registers.
        size: bytes of the page, or of the memory.
        backend: name under which the release registers the backend; empty for the scenario's own.
        sha256: of the page, see :func:`page_digest`.
    """
    del operation, pool, key, size, backend, sha256


def page_digest(page: Any) -> str:  # noqa: ANN401 - anything with a buffer
    """Return the head of the SHA-256 of a page's bytes."""
    return hashlib.sha256(page).hexdigest()[:_DIGEST_DIGITS]


def short_key(key: str) -> str:
    """Return a key with every long hash cut to its first digits."""
    return _HASH.sub(lambda found: found.group()[:_HASH_DIGITS], key)


def without_hashes(key: str) -> str:
    """Return a key with an asterisk for every long hash."""
    return _HASH.sub("*", key)


def pool_settings(pool: Any) -> str:  # noqa: ANN401 - any class of host pools
    """Return what a backend reads off a host pool to size its pages, where the pool has it."""
    known = ((name, getattr(pool, name, None)) for name in _POOL_SETTINGS)
    return ", ".join(f"{name}={value}" for name, value in known if value is not None)


def rank_namespace(config: Any, *, left_out: Mapping[str, object]) -> str:  # noqa: ANN401
    """Return the settings that make the keys of a rank unique, but for those of a single rank.

    A setting that is off is left out, as is one that a release does not have yet, and the entries
    ``left_out`` of the extra configuration.
    """
    return ", ".join(_setting_texts(config, left_out))


def _setting_texts(config: Any, left_out: Mapping[str, object]) -> Iterator[str]:  # noqa: ANN401
    for name in sorted(field.name for field in dataclasses.fields(config)):
        value = getattr(config, name)
        if isinstance(value, Mapping):
            value = {key: own for key, own in value.items() if key not in left_out}
            value = json.dumps(value, sort_keys=True) if value else None
        is_lone = value == 1 and name.endswith("_size")
        if value and not is_lone:
            yield f"{name}={value}"


def observe_storage_use(values: Values, result: object) -> StorageObservation:
    """Return the observation of one call of :func:`report_storage_use`."""
    del result
    return StorageObservation(
        operation=values["operation"],
        pool=values["pool"],
        key=values["key"],
        bytes=values["size"],
        backend=values["backend"],
        sha256=values["sha256"],
    )
