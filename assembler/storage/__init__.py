"""The storage tier below host memory: pages by their hash, in files or in a distributed store."""

from assembler.storage.backends import open_storage
from assembler.storage.interface import HiCacheStorage, HiCacheStorageConfig

__all__ = ["HiCacheStorage", "HiCacheStorageConfig", "open_storage"]
