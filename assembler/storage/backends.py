"""Storage backends by name."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import fields

from assembler.errors import AssemblyError
from assembler.storage.files import FOLDER_OPTION, FileBlobs, storage_folder
from assembler.storage.interface import HiCacheStorage, HiCacheStorageConfig
from assembler.storage.mooncake import MooncakeBlobs, MooncakeOptions
from assembler.storage.paged import PagedStorage

logger = logging.getLogger(__name__)


def open_storage(name: str, config: HiCacheStorageConfig) -> HiCacheStorage:
    """Open a backend.

    Raises:
        AssemblyError: no backend has the name.
        StorageError: an option is wrong, or the backend cannot be reached.
    """
    if name not in _BACKENDS:
        expected = " or ".join(_BACKENDS)
        raise AssemblyError("storage backend", "must be known", expected=expected, got=repr(name))
    return _BACKENDS[name](config)


def _open_files(config: HiCacheStorageConfig) -> HiCacheStorage:
    _tell_unused(config, {FOLDER_OPTION})
    return PagedStorage(FileBlobs(storage_folder(config.extra_config)), config)


def _open_mooncake(config: HiCacheStorageConfig) -> HiCacheStorage:
    _tell_unused(config, [field.name for field in fields(MooncakeOptions)])
    return PagedStorage(MooncakeBlobs(MooncakeOptions.of(config.extra_config)), config)


def _tell_unused(config: HiCacheStorageConfig, used: Iterable[str]) -> None:
    """Log the options that a backend does not read: options of another one may stay in a file."""
    for name in sorted(set(config.extra_config).difference(used)):
        logger.info("storage option %s is not one of this backend and is not used", name)


_BACKENDS: dict[str, Callable[[HiCacheStorageConfig], HiCacheStorage]] = {
    FileBlobs.backend: _open_files,
    MooncakeBlobs.backend: _open_mooncake,
}
