"""Reports of a storage backend's operations, with keys that are equal in every process."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

_HASH = re.compile(r"[0-9a-f]{32,}")
_HASH_DIGITS = 16

StorageOperation = Literal["open", "query", "store", "fetch", "refuse"]


def report_storage_use(*, operation: StorageOperation, pool: str, key: str, size: int) -> None:
    """Do nothing: the recorder observes the call as a storage operation.

    Args:
        operation: see :class:`traces.schema.model.StorageAccess`.
        pool: upper-case pool name; empty for ``open``.
        key: of the page, see :func:`short_key`; for ``open`` the settings.
        size: bytes of the page.
    """
    del operation, pool, key, size


def short_key(key: str) -> str:
    """Return a key with every long hash cut to its first digits."""
    return _HASH.sub(lambda found: found.group()[:_HASH_DIGITS], key)


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
