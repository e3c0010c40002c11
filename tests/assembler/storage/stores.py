"""Backends under test, hosts with known bytes, and stores that fail on demand."""

import torch

from assembler.device import get_device
from assembler.errors import StorageError
from assembler.host_pools.mha import MHATokenToKVPoolHost
from assembler.names import PoolName
from assembler.storage.blobs import BlobStore
from assembler.storage.interface import HiCacheStorageConfig, HiCacheStorageExtraInfo
from assembler.storage.page_hash import page_hashes
from assembler.storage.paged import PagedStorage
from tests.assembler.small_models import mha_pool

NOTHING = HiCacheStorageExtraInfo(prefix_keys=())
PAGE = 4


def config_of(**changes):
    settings = {
        "tp_rank": 1,
        "tp_size": 4,
        "pp_rank": 0,
        "pp_size": 1,
        "attn_cp_rank": 0,
        "attn_cp_size": 1,
        "model_name": "lab/model",
        "enable_storage_metrics": True,
        "extra_config": {},
    }
    return HiCacheStorageConfig(**{**settings, **changes})


def host_pool(*, layout="layer_first", device=None, head_dim=8):
    device = device or get_device("cpu")
    return MHATokenToKVPoolHost(
        device_pool=mha_pool(device, head_dim=head_dim),
        host_to_device_ratio=2.0,
        host_size=0,
        page_size=PAGE,
        layout=layout,
        pin_memory=True,
        device=device,
        allocator_type=None,
    )


def fill(pool, seed):
    """Give every byte of a host pool a value that depends on the seed."""
    for plane in pool.planes:
        buffer = pool.plane_buffer(plane.name)
        content = torch.Generator().manual_seed(seed)
        raw = torch.randint(0, 256, (buffer.nbytes,), generator=content, dtype=torch.uint8)
        buffer.copy_(raw.view(buffer.dtype).view(buffer.shape))


def content(pool, slot):
    return [block.view(torch.uint8).clone() for block in pool.page_blocks(slot)]


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def opened(blobs, pool, **changes):
    storage = PagedStorage(blobs, config_of(**changes))
    storage.register_mem_pool_host(pool)
    return storage


def hashes_of(page_num):
    return page_hashes(list(range(page_num * PAGE)), page_size=PAGE, last_hash=None)


def slots_of(*pages):
    return torch.tensor([page * PAGE + offset for page in pages for offset in range(PAGE)])


class FailingBlobs(BlobStore):
    """A store in memory whose named operations raise what they are told to raise."""

    backend = "memory"

    def __init__(self):
        self.kept = {}
        self.errors = {}

    def fail(self, operation, error=None):
        rule = "must answer"
        self.errors[operation] = error or StorageError("store", rule, expected="yes", got="no")

    def put(self, name, parts):
        self._check("put")
        self.kept[name] = b"".join(parts)

    def get(self, name):
        self._check("get")
        return memoryview(self.kept[name]) if name in self.kept else None

    def exists(self, name):
        self._check("exists")
        return name in self.kept

    def remove(self, name):
        self._check("remove")
        self.kept.pop(name, None)

    def clear(self):
        self.kept.clear()

    def close(self):
        self._check("close")

    def _check(self, operation):
        if operation in self.errors:
            raise self.errors[operation]


KV = PoolName.KV
