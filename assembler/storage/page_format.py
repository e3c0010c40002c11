"""Names and bytes of stored pages: what a page means is part of its name and of its content."""

import hashlib
import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache
from assembler.names import PoolName
from assembler.storage.interface import HiCacheStorageConfig

_MAGIC = b"kvpage1\n"
_DIGEST_BYTES = 32
_LENGTH = struct.Struct("<IQ")
# A file name has at most 255 bytes.
_LONGEST_PART = 200


class PageRefusedError(Exception):
    """Bytes that are not the page asked for; the message says what is wrong with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageNames:
    """Names of the pages of one rank of one model.

    A name has four parts: model, rank, format of the pool, hash of the page. The format says pool,
    layout, page size, number of layers, and each plane's dtype and row shape: pages that differ in
    one of them have different names.

    Source: sglang 0.5.12 ``hicache_storage.py:311-558``, whose names have neither layout, dtype nor
        row width.
    """

    config: HiCacheStorageConfig

    def name(self, pool_name: PoolName, pool: HostKVCache, page_hash: str) -> str:
        """Return the name of a page: ``model/rank/format/hash``."""
        return "/".join((self._model(), self._rank(pool), _format(pool_name, pool), page_hash))

    def _model(self) -> str:
        # The digest keeps "a/b" and "a-b" apart.
        readable = re.sub(r"[^A-Za-z0-9._]+", "-", self.config.model_name)[:_LONGEST_PART]
        return f"{readable}-{_short_digest(self.config.model_name)}"

    def _rank(self, pool: HostKVCache) -> str:
        config = self.config
        shard = "every_tp_rank" if is_replicated(pool) else f"tp{config.tp_rank}of{config.tp_size}"
        cp = f"cp{config.attn_cp_rank}of{config.attn_cp_size}"
        return f"{shard}-{cp}-pp{config.pp_rank}of{config.pp_size}"


def is_replicated(pool: HostKVCache) -> bool:
    """Return whether every tensor-parallel rank has the same rows: latent rows have no heads.

    Source: sglang 0.5.23 ``hybrid_cache_controller.py`` (``should_backup``); 0.5.12 asks the model
        and not the pool, and loses the states of all ranks but one.
    """
    return pool.device_pool.use_mla


def encode_page(name: str, blocks: Sequence[memoryview]) -> list[memoryview]:
    """Return the stored bytes of a page: a header with name and checksum, then the blocks."""
    header = json.dumps({"name": name}, separators=(",", ":")).encode()
    lengths = _LENGTH.pack(len(header), sum(block.nbytes for block in blocks))
    digest = hashlib.sha256(lengths + header)
    for block in blocks:
        digest.update(block)
    return [memoryview(_MAGIC + digest.digest() + lengths + header), *blocks]


def decode_page(name: str, stored: memoryview, *, payload_bytes: int) -> memoryview:
    """Return the bytes of a page's blocks.

    Raises:
        PageRefusedError: the bytes are torn, damaged, of another page or of another size.
    """
    start = len(_MAGIC) + _DIGEST_BYTES + _LENGTH.size
    if len(stored) < start or stored[: len(_MAGIC)] != _MAGIC:
        raise PageRefusedError("it does not begin like a page")
    digest = stored[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES]
    header_bytes, stored_bytes = _LENGTH.unpack(stored[start - _LENGTH.size : start])
    if len(stored) != start + header_bytes + stored_bytes:
        expected = start + header_bytes + stored_bytes
        raise PageRefusedError(f"it is torn: expected {expected} bytes, got {len(stored)}")
    if hashlib.sha256(stored[start - _LENGTH.size :]).digest() != digest:
        raise PageRefusedError("its checksum is wrong")
    header = json.loads(bytes(stored[start : start + header_bytes]))
    if header["name"] != name:
        raise PageRefusedError(f"it is the page {header['name']}")
    if stored_bytes != payload_bytes:
        raise PageRefusedError(f"its size is wrong: expected {payload_bytes}, got {stored_bytes}")
    return stored[start + header_bytes :]


def _format(pool_name: PoolName, pool: HostKVCache) -> str:
    planes = "+".join(map(_plane, pool.planes))
    text = f"{pool_name}.{pool.layout}.p{pool.page_size}.l{pool.layer_num}.{planes}"
    return text if len(text) <= _LONGEST_PART else f"{text[:_LONGEST_PART]}-{_short_digest(text)}"


def _plane(plane: PlaneGeometry) -> str:
    dtype = str(plane.dtype).removeprefix("torch.")
    return f"{plane.name}-{dtype}-{'x'.join(map(str, plane.row_shape))}"


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
