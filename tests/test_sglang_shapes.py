"""Faults of shapes that public reports tell of, put into a release by hand.

Each must be found, and its first cause must lie in the function that has it. One shape of our own
code, a lock given up where the copy is launched, is in test_early_locks. Nothing here names a
scenario: the gate runs up to eighty of those whose recorded lines reach the edit. Needs the
environment of a release, which is downloaded once (`make sglang`), so these tests run only when
they are asked for by GOLDENTRACE_SGLANG=1.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.releases import NEEDS_RELEASES, copy_release, gate, some_reaching

RELEASE = "0.5.23"

pytestmark = NEEDS_RELEASES

ASSEMBLER = "mem_cache/hybrid_cache/hybrid_pool_assembler.py"
CONTROLLER = "managers/cache_controller.py"
TREE = "mem_cache/unified_radix_cache.py"
POOLS = "mem_cache/memory_pool.py"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A text of one function of a release that another one replaces.

    Args:
        report: the public issue or change that tells of a fault of this shape.
        file: of the release, below sglang/srt.
        function: qualified name of the function.
        right: text of the function, found once in it.
        wrong: what stands there instead.
        begins_with: another edit without which the fault would raise; its place is no fault.
    """

    report: str
    file: str
    function: str
    right: str
    wrong: str
    begins_with: "Shape | None" = None


SGLANG = "https://github.com/sgl-project/sglang"
SHAPES = {
    "a host lock is never given back after a page was stored": Shape(
        report=f"{SGLANG}/issues/30532",
        file=TREE,
        function="UnifiedRadixCache._drain_storage_control_queues_impl._drain_backup",
        right="self.dec_host_lock_ref(node_id, lock_params)",
        wrong="pass",
    ),
    "an evictable count of states is not raised": Shape(
        report=f"{SGLANG}/pull/10637",
        file="mem_cache/unified_cache/components/mamba.py",
        function="MambaComponent.release_component_lock",
        right="self.tree_core.component_evictable_size_[ct] += vlen",
        wrong="pass",
    ),
    "a load does not wait for the forward pass": Shape(
        report=f"{SGLANG}/issues/30321",
        file=CONTROLLER,
        function="HiCacheController.start_loading",
        right="if self.load_fence_stream is not None:",
        wrong="if False:",
    ),
    "a backup does not wait for the forward pass": Shape(
        report="https://github.com/vllm-project/vllm/issues/45704",
        file=CONTROLLER,
        function="HiCacheController.start_writing",
        right="if self.write_fence_stream is not None:",
        wrong="if False:",
    ),
    "a list of free slots keeps its caller's tensor": Shape(
        report=f"{SGLANG}/issues/35270",
        file="mem_cache/allocator/base.py",
        function="BaseTokenToKVPoolAllocator._copy_for_free_group",
        right="return free_index.clone()",
        wrong="return free_index",
    ),
    "the address of an index page in storage is one page too far": Shape(
        report=f"{SGLANG}/issues/27504",
        file="mem_cache/pool_host/dsa.py",
        function="DSAIndexerPoolHost.get_page_buffer_meta",
        right="page_index = int(indices[i]) // self.page_size",
        wrong="page_index = int(indices[i]) // self.page_size + 1",
    ),
    "the pipeline stage is missing in a storage key": Shape(
        report=f"{SGLANG}/issues/33268",
        file="mem_cache/hicache_storage.py",
        function="HiCacheFile.__init__",
        right='f"_{pp_size}_{pp_rank}"',
        wrong='f"_{pp_size}"',
    ),
    "a host pool takes its dtype from another attribute of the device pool": Shape(
        report="https://github.com/LMCache/LMCache/issues/4463",
        file="mem_cache/pool_host/dsa.py",
        function="DSAIndexerPoolHost.__init__",
        right="self.dtype = device_pool.store_dtype",
        wrong="self.dtype = device_pool.dtype",
    ),
    "the width of a sparse row does not reach the host pool": Shape(
        report=f"{SGLANG}/pull/25022",
        file=ASSEMBLER,
        function="build_kv_host_pool",
        right='kwargs["override_kv_cache_dim"] = override_kv_cache_dim',
        wrong="pass",
    ),
    "an accessor of index keys does not wait for its layer": Shape(
        report=f"{SGLANG}/issues/38031",
        file=POOLS,
        function="HybridLinearKVPool.get_broadcastable_index_k_with_scale_buffer",
        right="self._wait_for_layer(layer_id)",
        wrong="pass",
    ),
    "a side state is not registered with its pool": Shape(
        report=f"{SGLANG}/pull/38161",
        file=POOLS,
        function="HybridReqToTokenPool._init_mamba_pool",
        right="self.mamba_pool.register_slot_state(self.ngram_pool)",
        wrong="pass",
    ),
    "draft pools are passed as none": Shape(
        report=f"{SGLANG}/issues/30321",
        file=ASSEMBLER,
        function="build_hybrid_mamba_stack",
        right="packed_draft_device_pools=params.mtp_draft_device_pools,",
        wrong="packed_draft_device_pools=(),",
    ),
    "a prefix is not cut to what every pool has": Shape(
        report="https://github.com/LMCache/LMCache/issues/4991",
        file=CONTROLLER,
        function="HiCacheController._page_transfer_kv_batch",
        right="return min([kv_hits, *sidecar_hits.values()])",
        wrong="return kv_hits",
    ),
    "pointers of K and V are swapped": Shape(
        report="https://github.com/NVIDIA/TensorRT-LLM/issues/6507",
        file=POOLS,
        function="MHATokenToKVPool._pd_registerable_tensors",
        right="self.k_buffer + self.v_buffer",
        wrong="self.v_buffer + self.k_buffer",
    ),
    "slots are not translated before rows are addressed": Shape(
        report=f"{SGLANG}/issues/38031",
        file="mem_cache/l2_transfer.py",
        function="L2TransferEngine._resolve_device_indices",
        right="resolved = translate(indices)",
        wrong="resolved = indices",
    ),
    "slots are translated twice": Shape(
        report=f"{SGLANG}/issues/38031",
        file="mem_cache/l2_transfer.py",
        function="L2TransferEngine._resolve_device_indices",
        right="resolved = translate(indices)",
        wrong="resolved = translate(translate(indices))",
    ),
    "a page that is missing in the middle counts as fetched": Shape(
        report="https://github.com/LMCache/LMCache/issues/4991",
        file=CONTROLLER,
        function="HiCacheController._generic_page_get",
        right="            if page_data[i] is None:",
        wrong="            if page_data[i] is None:\n                count += 1\n"
        "                continue\n            if False:",
    ),
    "layers of a later pipeline stage are off by one": Shape(
        report=f"{SGLANG}/issues/9266",
        file=ASSEMBLER,
        function="_stage_local_layer_mapping",
        right="global_layer - start_layer: pool_layer",
        wrong="global_layer - start_layer - (start_layer > 0): pool_layer",
    ),
    "a count is reduced in another group of ranks": Shape(
        report=f"{SGLANG}/pull/28614",
        file=CONTROLLER,
        function="HiCacheController._create_sync_groups",
        right="base_groups = [self.attn_cp_group, self.attn_tp_group]",
        wrong="base_groups = [self.tp_group, self.attn_tp_group]",
    ),
    "host slots of a load are given up when it is launched": Shape(
        report=f"{SGLANG}/pull/31427",
        file=TREE,
        function="UnifiedRadixCache._load_back_transfers",
        right="        self.dec_lock_ref(node_id, ancestor_lock_params)\n"
        "        if device_indices is None:\n"
        "            self.dec_host_lock_ref(node_id, host_anchor_params)",
        wrong="        self.dec_lock_ref(node_id, ancestor_lock_params)\n"
        "        self.dec_host_lock_ref(node_id, host_anchor_params)\n"
        "        if device_indices is None:",
        begins_with=Shape(
            report="",
            file=TREE,
            function="UnifiedRadixCache.loading_check",
            right="self.dec_host_lock_ref(node, host_lock_params)",
            wrong="pass",
        ),
    ),
    "host slots that arrived for a dropped prefetch are freed twice": Shape(
        report=f"{SGLANG}/issues/13483",
        file=TREE,
        function="UnifiedRadixCache._retire_ongoing_prefetch",
        right="cc.append_host_mem_release(host_indices=host_indices, extra_pools=extra_pools)",
        wrong="cc.append_host_mem_release(host_indices=host_indices, extra_pools=extra_pools)\n"
        "        cc.append_host_mem_release(host_indices=host_indices)",
    ),
    "index keys are not made known to storage": Shape(
        report="https://github.com/kvcache-ai/Mooncake/issues/2236",
        file="mem_cache/hybrid_cache/hybrid_cache_controller.py",
        function="HybridCacheController.attach_storage_backend",
        right="for entry in host_pools or []:",
        wrong="for entry in (host_pools or [])[:1]:",
    ),
    "the namespace of a request is missing in its page hashes": Shape(
        report=f"{SGLANG}/issues/26747",
        file="mem_cache/utils.py",
        function="get_storage_hash_str",
        right='getattr(key, "extra_key", None), getattr(key, "cache_salt", None)',
        wrong='None, getattr(key, "cache_salt", None)',
    ),
    "eviction on the host stops counting what it freed": Shape(
        report=f"{SGLANG}/issues/4987",
        file=TREE,
        function="UnifiedRadixCache.evict_host",
        right="return result.tracker.get(component_type, 0)",
        wrong="return 0",
    ),
}


def span_of(text: str, function: str) -> tuple[int, int]:
    """Return the lines of a function, counted from 1: the first, and the one behind the last."""
    body = ast.parse(text).body
    found: ast.stmt | None = None
    for name in function.split("."):
        [found] = [one for one in body if getattr(one, "name", None) == name]
        assert isinstance(found, ast.ClassDef | ast.FunctionDef)
        body = found.body
    assert found is not None
    assert found.end_lineno is not None
    return found.lineno, found.end_lineno + 1


def put_in(shape: Shape, tree: Path) -> None:
    """Make the edits of a shape; every text must be found once in its function."""
    if shape.begins_with is not None:
        put_in(shape.begins_with, tree)
    path = tree / "sglang" / "srt" / shape.file
    text = path.read_text("utf-8")
    first, behind = span_of(text, shape.function)
    lines = text.splitlines(keepends=True)
    inside = "".join(lines[first - 1 : behind - 1])
    assert inside.count(shape.right) == 1
    path.unlink()
    before, after = "".join(lines[: first - 1]), "".join(lines[behind - 1 :])
    path.write_text(before + inside.replace(shape.right, shape.wrong) + after, "utf-8")


def is_in_function(location: dict[str, object] | None, shape: Shape, tree: Path) -> bool:
    """Return whether a cause lies in the function that has the fault."""
    if location is None or location["file"] != f"sglang/srt/{shape.file}":
        return False
    first, behind = span_of((tree / str(location["file"])).read_text("utf-8"), shape.function)
    return first <= int(str(location["line"])) < behind


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_fault_is_found_and_its_function_is_named_first(capsys, tmp_path, shape):
    tree = copy_release(RELEASE, tmp_path)
    put_in(shape, tree)

    names = some_reaching(f"dir:{tree}", most=80)
    code, verdict = gate(capsys, f"pypi:{RELEASE}", f"dir:{tree}", *names)

    assert code == 1
    assert is_in_function(verdict["causes"][0]["location"], shape, tree)
