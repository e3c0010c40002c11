"""Faults in the storage of a released package, put in by hand: each is found, and told first.

Needs the environment of a release, which is downloaded once (`make sglang`), so these tests
run only when they are asked for by GOLDENTRACE_SGLANG=1.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.releases import NEEDS_RELEASES, copy_release, gate

RELEASE = "0.5.23"

pytestmark = NEEDS_RELEASES

HEADS = "kv_only.llama3_8b.page_first.kernel.wt.p16.ratio.{}.registered"
LATENT = "kv_only.dsv3.page_first.kernel.wt.p16.ratio.tp2r1.registered"
DECODE_RANK = "unified.dsv3.page_first.kernel.wt.p64.ratio.tp8dcp2r1.registered"
INDEX_KEYS = "unified.dsv32_fp8.page_first.kernel.wt.p64.ratio.tp2r0.registered"
TREE = "unified_init.llama3_8b.page_first.kernel.wt.p16.ratio.tp8cp2.dynamic"
INDEXED_TREE = "unified_init.dsv32_fp8.page_first.kernel.wt.p64.ratio.tp1.dynamic"
BUFFER = "unified_init.gpt_oss.page_first.kernel.wt.p128.ratio.tp8cp2.dynamic.buffer_only"
STAGE = "unified_init.llama3_8b.layer_first.kernel.wt.p1.gb.tp4cp4pp5"
SCENARIOS = (HEADS.format("tp2r0"), LATENT, INDEX_KEYS, TREE, INDEXED_TREE, BUFFER)

STORAGE = "mem_cache/hicache_storage.py"
CONTROLLER = "managers/cache_controller.py"
INDEX_POOL = "mem_cache/pool_host/dsa.py"
SUFFIX = 'f"_{model_name}_{tp_rank}_{tp_size}{shard_suffix}"'
GETTER = """    def get_data_page(self, index, flat: bool = True) -> torch.Tensor:
        page_idx = int(index) // self.page_size"""
K_FIRST = '            key_list.append(f"{key_}_{self.mha_suffix}_k")'
V_FIRST = '            key_list.append(f"{key_}_{self.mha_suffix}_v")'
MISSING_PAGE = "            if page_data[i] is None:"
MISSING_COUNTS = f"""{MISSING_PAGE}
                count += 1
                continue
            if False:"""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A text of a file that another one replaces, and a difference that it must make."""

    file: str
    right: str
    wrong: str
    scenario: str
    kind: str
    where: str


FAULTS = {
    "model is missing in a key": Fault(
        file=STORAGE,
        right=SUFFIX,
        wrong='f"_{tp_rank}_{tp_size}{shard_suffix}"',
        scenario=HEADS.format("tp2r0"),
        kind="storage_key_changed",
        where="storage store page e859874664da9120_0_2.bin",
    ),
    "rank is missing in a key": Fault(
        file=STORAGE,
        right=SUFFIX,
        wrong='f"_{model_name}_{tp_size}{shard_suffix}"',
        scenario=HEADS.format("tp2r1"),
        kind="storage_key_changed",
        where="storage store page e859874664da9120_sentinel-llama3_8b_2.bin",
    ),
    "number of ranks is missing in a key": Fault(
        file="mem_cache/storage/eic/eic_storage.py",
        right="_{self.rank}_{self.world_size}_@sglang",
        wrong="_{self.rank}_@sglang",
        scenario=HEADS.format("tp4r1"),
        kind="storage_key_changed",
        where="storage store page sentinel/llama3_8b_mha_attn_page_first_1_@sglang_",
    ),
    "page size is missing in a key": Fault(
        file=STORAGE,
        right='f"_page{storage_config.logical_page_size}"',
        wrong='f""',
        scenario=DECODE_RANK,
        kind="storage_key_changed",
        where="storage store page 76f5cd9ec560a128_sentinel-dsv3_tp8_dcp1_2.bin",
    ),
    "namespace is missing in the hash": Fault(
        file="mem_cache/utils.py",
        right='            getattr(key, "extra_key", None), getattr(key, "cache_salt", None)',
        wrong="            None, None",
        scenario=TREE,
        kind="storage_key_changed",
        where="storage store KV page 4faa8bd53eda3d89",
    ),
    "dtype of another attribute": Fault(
        file=INDEX_POOL,
        right="self.dtype = device_pool.store_dtype",
        wrong="self.dtype = device_pool.dtype",
        scenario=INDEX_KEYS,
        kind="storage_key_changed",
        where="storage open INDEXER",
    ),
    "getter reads the next page": Fault(
        file=INDEX_POOL,
        right=GETTER,
        wrong=f"{GETTER} + 1",
        scenario=INDEX_KEYS,
        kind="transfer_changed",
        where="storage store page",
    ),
    "keys of K and V are swapped": Fault(
        file="mem_cache/storage/simm/hicache_simm.py",
        right=f"{K_FIRST}\n{V_FIRST}",
        wrong=f"{V_FIRST}\n{K_FIRST}",
        scenario=HEADS.format("tp2r0"),
        kind="storage_key_changed",
        where="storage store page e859874664da9120_0_v",
    ),
    "page of another place in a file is read": Fault(
        file="mem_cache/storage/hf3fs/mini_3fs_metadata_server.py",
        right="results.append(self.key_to_index[key])",
        wrong="results.append(self.key_to_index[key] + 1)",
        scenario=HEADS.format("tp2r0"),
        kind="storage_key_changed",
        where="storage read page pages.0.bin from byte 16777216",
    ),
    "a page that failed to arrive is believed to be stored": Fault(
        file="mem_cache/unified_radix_cache.py",
        right="keep_pages = trimmed_pages + completed_tokens // self.page_size",
        wrong="keep_pages = trimmed_pages + completed_tokens // self.page_size + 1",
        scenario=BUFFER,
        kind="call_removed",
        where="HybridCacheController.write",
    ),
    "a prefetch that is given up keeps its anchor": Fault(
        file="mem_cache/unified_radix_cache.py",
        right="            self.buffer_pipeline.release_anchor_lock(request)",
        wrong="            pass",
        scenario=BUFFER,
        kind="locks_changed",
        where="locks of FULL of node 1000-1127 when behind its first half, KV fails at a page",
    ),
    "a send between stages is not waited for": Fault(
        file="mem_cache/unified_radix_cache.py",
        right="            work.wait()",
        wrong="            pass",
        scenario=STAGE,
        kind="collective_changed",
        where="isend waited for int64 in tree",
    ),
    "a file backend keeps more files than it may": Fault(
        file="mem_cache/storage/file/lru_file_evictor.py",
        right="self._total_bytes > self.max_size_bytes:",
        wrong="self.max_size_bytes > self.max_size_bytes:",
        scenario=HEADS.format("tp2r0"),
        kind="transfer_changed",
        where="storage query page e859874664da9120_sentinel-llama3_8b_0_2.bin in storage",
    ),
    "rank stores rows that another one stores": Fault(
        file=CONTROLLER,
        right="return not self.storage_config.is_storage_writer",
        wrong="return False",
        scenario=LATENT,
        kind="transfer_added",
        where="storage store page",
    ),
}

# A partial success that is taken for a whole one shows in what the tree keeps.
KEPT = {
    "prefix is not cut to what every pool has": Fault(
        file=CONTROLLER,
        right="return min([kv_hits, *sidecar_hits.values()])",
        wrong="return kv_hits",
        scenario=INDEXED_TREE,
        kind="digest_changed",
        where="prefetch first INDEXER fails at a page in tree storage",
    ),
    "page that is missing counts as fetched": Fault(
        file=CONTROLLER,
        right=MISSING_PAGE,
        wrong=MISSING_COUNTS,
        scenario=TREE,
        kind="digest_changed",
        where="prefetch first KV fails at a page in tree storage",
    ),
}


def gate_fault(capsys, fault, folder: Path, *scenarios):
    """Gate the release against a copy with one other text; return the lines of it as well."""
    tree = copy_release(RELEASE, folder)
    file = tree / "sglang" / "srt" / fault.file
    before, right, after = file.read_text().partition(fault.right)
    assert right
    file.write_text(f"{before}{fault.wrong}{after}")
    code, verdict = gate(capsys, f"pypi:{RELEASE}", f"dir:{tree}", *scenarios)
    first = before.count("\n") + 1
    # The statement of an argument may begin one line above it.
    lines = range(first - 1, first + right.count("\n") + 1)
    return code, verdict["causes"], lines


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_in_storage_is_the_first_cause_with_its_line(capsys, tmp_path, fault):
    code, causes, lines = gate_fault(capsys, fault, tmp_path, fault.scenario)
    assert code == 1
    assert causes[0]["location"]["file"] == f"sglang/srt/{fault.file}"
    assert causes[0]["location"]["line"] in lines
    differences = [one for cause in causes for one in (cause, *cause["consequences"])]
    told = [(one["kind"], one["where"]) for one in differences]
    assert [one for one in told if one[0] == fault.kind and one[1].startswith(fault.where)]


@pytest.mark.parametrize("fault", KEPT.values(), ids=KEPT)
def test_tokens_that_did_not_arrive_and_are_kept_show(capsys, tmp_path, fault):
    code, causes, _ = gate_fault(capsys, fault, tmp_path, fault.scenario)
    assert code == 1
    told = {one["where"]: one for cause in causes for one in (cause, *cause["consequences"])}
    kept = told[fault.where]
    assert kept["kind"] == fault.kind
    assert kept["after"]["arrived"] > kept["before"]["arrived"] == kept["before"]["available"]


def test_release_that_says_the_same_in_other_words_shows_nothing(capsys, tmp_path):
    """Control: a tree that is equal to the base would not be run at all."""
    same = Fault(file=STORAGE, right=SUFFIX, wrong=f"str({SUFFIX})", scenario="", kind="", where="")
    code, causes, _ = gate_fault(capsys, same, tmp_path, *SCENARIOS)
    assert (code, causes) == (0, [])
