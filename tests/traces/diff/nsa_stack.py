"""A pretended NSA stack: plays like the real one, with named edits instead of edited sources.

Shapes: pages of 64 slots, 2 layers, device rows of 656 bytes, 256 device slots, 320 host slots.
"""

from tests.traces.diff.played_records import ATTACH, CONTROLLER, STACKS, Play
from traces.recording.failures import failure_of
from traces.schema.model import (
    Allocation,
    Digest,
    EventAwaited,
    EventRecorded,
    Outcome,
    Recording,
    RoundTrip,
    Transfer,
)


def build_kv_host_pool(play: Play, device: dict, page_size: int, override: int | None) -> dict:
    given = {"kv_pool": device, "use_mla": True, "page_size": page_size}
    if not play.has("drop override in stack"):
        given["override_kv_cache_dim"] = override
    if play.has("drop page_size in stack"):
        del given["page_size"]
    defaults = {"override_kv_cache_dim": None} if "page_size" in given else {}
    callee = "build_kv_host_pool"
    if play.has("rename build_kv_host_pool"):
        callee = "build_anchor_host_pool"
    with play.call("builder", callee, (STACKS, 50), given, defaults):
        if "page_size" not in given:
            raise TypeError(
                "build_kv_host_pool() missing 1 required keyword-only argument: 'page_size'"
            )
        override = given.get("override_kv_cache_dim")
        inner = {"device_pool": device, "page_size": page_size, "layout": "layer_first"}
        if not play.has("drop override in host pool builder"):
            inner["override_kv_cache_dim"] = override
        if play.has("drop layout"):
            del inner["layout"]
        override = inner.get("override_kv_cache_dim")
        made = play.make(
            "constructor",
            "MLATokenToKVPoolHost",
            (STACKS, 20),
            inner,
            {"layout": "layer_first", "override_kv_cache_dim": None},
        )
    play.width = override or 576
    rows = 5 * page_size
    play.tensor("host.KV", made, "kv_buffer", [2, rows, 1, play.width], "uint8")
    return made


def build_pool_entry(play: Play, line: int, name: str, host: dict, device: dict) -> dict:
    anchor = name == "kv"
    given = {"name": name, "host_pool": host, "device_pool": device, "is_anchor": anchor}
    defaults = {"new_option": 0} if play.has("new parameter with default") else {}
    with play.call("builder", "build_pool_entry", (STACKS, line), given, defaults):
        inner = {"name": name, "host_pool": host, "device_pool": device}
        inner["is_primary_index_anchor"] = anchor
        if play.has("keyword order"):
            inner = dict(reversed(inner.items()))
        return play.make("constructor", "PoolEntry", (STACKS, 30), inner)


def build_shared_anchor_stack(play: Play, given: dict, device: dict) -> None:
    defaults = {
        "override_kv_cache_dim": None,
        "prefetch_threshold": 256,
        "model_name": None,
    }
    if play.has("remove parameter model_name"):
        del defaults["model_name"]
    at = (ATTACH, 123)
    with play.call("builder", "build_shared_anchor_stack", at, given, defaults):
        override = given.get("override_kv_cache_dim")
        host = build_kv_host_pool(play, device, given["page_size"], override)
        entries = [build_pool_entry(play, 65, "kv", host, device)]
        if not play.has("drop indexer entry"):
            indexer = play.make(
                "constructor",
                "NSAIndexerPoolHost",
                (STACKS, 60),
                {"device_pool": device, "anchor_host": host, "layout": "layer_first"},
            )
            pages = 5
            play.tensor("host.INDEXER", indexer, "index_k_buffer", [2, pages, 8448], "uint8")
            entries.append(build_pool_entry(play, 70, "indexer", indexer, device))
        group = play.make("constructor", "HostPoolGroup", (STACKS, 75), {"entries": entries})
        build_controller(play, given, group)
        if play.has("walls") and play.width != 656:
            raise ValueError(f"KV: host row must equal device row; expected 656, got {play.width}")


def build_controller(play: Play, given: dict, group: dict) -> None:
    cp, tp = given["attn_cp_group"], given["attn_tp_group"]
    if play.has("swap groups"):
        cp, tp = tp, cp
    inner = {
        "mem_pool_host": group,
        "page_size": given["page_size"],
        "attn_cp_group": cp,
        "attn_tp_group": tp,
        "write_policy": given["write_policy"],
        "prefetch_threshold": given.get("prefetch_threshold", 256),
    }
    if play.has("drop write_policy"):
        del inner["write_policy"]
    if play.has("explicit default"):
        inner["model_name"] = None
    if play.has("hard-coded threshold"):
        inner["prefetch_threshold"] = 1
    defaults = {"write_policy": "write_through_selective", "model_name": None}
    play.make("constructor", "HybridCacheController", (STACKS, 80), inner, defaults)


def attach(play: Play, device: dict, page_size: int) -> None:
    given = {
        "kv_pool": device,
        "page_size": page_size,
        "attn_cp_group": {"group": "attn_cp", "ranks": [0, 1], "rank": 0},
        "attn_tp_group": {"group": "attn_tp", "ranks": [0, 2], "rank": 0},
        "write_policy": "write_back",
        "prefetch_threshold": 512,
    }
    if not play.has("drop override in attach"):
        given["override_kv_cache_dim"] = 656
    if play.has("other override"):
        given["override_kv_cache_dim"] = 640
    with play.call(
        "builder",
        "attach_hybrid_nsa_pool_to_hiradix_cache",
        ("play.py", 9),
        {"page_size": page_size},
    ):
        if play.has("extra layer"):
            with play.call("builder", "build_stack_for_nsa", (ATTACH, 110), {"kv_pool": device}):
                build_shared_anchor_stack(play, given, device)
        else:
            build_shared_anchor_stack(play, given, device)


def move(play: Play, step: str, line: int, direction: str, pool: str, layer: int) -> None:
    width = {"KV": play.width, "INDEXER": 132}[pool]
    play.event(
        ("assembler/mla.py", line),
        Transfer(
            step=step,
            direction=direction,
            pool=pool,
            device_pool=pool,
            plane="kv" if pool == "KV" else "index_k",
            layer=layer,
            device_slots="64-127",
            host_slots="0-63",
            rows=64,
            row_bytes=width,
            bytes=64 * width,
            backend="kernel",
            stream="write" if direction == "backup" else "load",
        ),
    )


def pools(play: Play) -> list[str]:
    return ["KV"] if play.has("drop indexer entry") else ["KV", "INDEXER"]


def write(play: Play) -> None:
    play.step = "write"
    slots = "64-127" if play.has("slots start elsewhere") else "0-63"
    with play.call(
        "operation",
        "HybridCacheController.write",
        ("play.py", 12),
        {"device_indices": {"slots": "64-127"}},
        returns={"slots": slots},
    ):
        at = (CONTROLLER, 95)
        play.event(at, Allocation(step="write", owner="host.KV", pool="KV", need=64, slots=slots))
        if play.has("boom in write"):
            raise RuntimeError("boom")
    if not play.has("drop wait in write"):
        play.event(
            (CONTROLLER, 100),
            EventRecorded(step="write", name="write.start", stream="default", layer=None),
        )
        play.event(
            (CONTROLLER, 101), EventAwaited(step="write", name="write.start", stream="write")
        )
    for pool in pools(play):
        for layer in range(2):
            if not (play.has("drop backup of the indexer") and pool == "INDEXER"):
                move(play, "write", 77, "backup", pool, layer)
    play.event(
        (CONTROLLER, 110),
        EventRecorded(step="write", name="write.finish", stream="write", layer=None),
    )
    play.digests.append(
        Digest(step="write", owner="host.KV", pool="KV", sha256=f"{play.width:016x}")
    )


def load(play: Play) -> None:
    play.step = "load"
    given = {"host_indices": {"slots": "0-63"}}
    defaults = {"node_id": -1}
    if not play.has("drop node_id"):
        given["node_id"] = 7
    play.make(
        "operation", "HybridCacheController.load", ("play.py", 14), given, defaults, returns=None
    )
    for layer in range(2):
        for pool in pools(play):
            if not (play.has("drop load of layer 1") and layer == 1 and pool == "KV"):
                move(play, "load", 88, "load", pool, layer)
        play.event(
            (CONTROLLER, 150),
            EventRecorded(step="load", name=f"load.layer{layer}", stream="load", layer=layer),
        )
    for layer in range(2):
        if not play.has("drop wait in read"):
            play.event(
                (CONTROLLER, 170),
                EventAwaited(step="load", name=f"load.layer{layer}", stream="default"),
            )
    wrong = play.width != 656 or play.has("drop wait in read") or play.has("drop load of layer 1")
    play.digests.append(
        RoundTrip(
            step="load",
            pool="KV",
            plane="",
            equal=not wrong,
            wrong_slots="64-127" if wrong else "",
            foreign_slots="",
        )
    )


def play_nsa(
    *edits: str,
    name: str = "nsa_fp8",
    page_size: int = 64,
    sites: bool = True,
    config: dict | None = None,
) -> Recording:
    play = Play(*edits, config=config)
    play.step = "assemble"
    outcome = Outcome(ok=True, failed_step="", failure=None)
    try:
        device = play.make(
            "constructor",
            "NSATokenToKVPool",
            ("play.py", 5),
            {"size": 256, "page_size": page_size, "layer_num": 2},
        )
        for layer in range(2):
            play.tensor(
                "device.KV", device, f"kv_buffer[{layer}]", [256 + page_size, 1, 656], "uint8"
            )
        attach(play, device, page_size)
        write(play)
        load(play)
    except (RuntimeError, TypeError, ValueError) as error:
        failure = failure_of(error)
        outcome = Outcome(ok=False, failed_step=play.step, failure=failure)
    return play.recording(name, outcome, sites=sites)
