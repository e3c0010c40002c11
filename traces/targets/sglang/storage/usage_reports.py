"""What a storage backend is told and asked, in words that are the same in every process."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

_HASH = re.compile(r"[0-9a-f]{32,}")
_HASH_DIGITS = 16

StorageOperation = Literal["open", "query", "store", "fetch", "refuse"]


def report_storage_use(*, operation: StorageOperation, pool: str, key: str, size: int) -> None:
    """Say that storage is used. Does nothing: a recorder watches its calls.

    Args:
        operation: see :class:`traces.schema.model.StorageAccess`.
        pool: upper-case pool name; empty for ``open``.
        key: of the page, as :func:`short` gives it.
        size: bytes of the page.
    """
    del operation, pool, key, size


def short_key(key: str) -> str:
    """Return a key with every long hash cut to its first digits."""
    return _HASH.sub(lambda found: found.group()[:_HASH_DIGITS], key)


def rank_namespace(config: Any, *, unsaid: Mapping[str, object]) -> str:  # noqa: ANN401
    """Return what sets the keys of a rank apart: every setting that is not a lone rank's.

    A setting that a release does not have yet reads like one that is off.

    Args:
        config: the release's own configuration of a backend, a dataclass.
        unsaid: entries of its extra configuration that are left out.
    """
    return ", ".join(_setting_texts(config, unsaid))


def _setting_texts(config: Any, unsaid: Mapping[str, object]) -> Iterator[str]:  # noqa: ANN401
    for name in sorted(field.name for field in dataclasses.fields(config)):
        value = getattr(config, name)
        if isinstance(value, Mapping):
            value = {key: own for key, own in value.items() if key not in unsaid}
            value = json.dumps(value, sort_keys=True) if value else None
        is_lone = value == 1 and name.endswith("_size")
        if value and not is_lone:
            yield f"{name}={value}"
