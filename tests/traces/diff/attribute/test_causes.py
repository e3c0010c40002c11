"""Faults of the wiring, one a test: exactly one cause, at the line to look at."""

from traces.diff import diff
from traces.schema.model import Location
from traces.schema.verdict import Kind, Level


def facts(cause):
    return (cause.kind, cause.level, cause.builder, cause.callee, cause.parameter)


def wheres(cause):
    return [(one.kind.value, one.where) for one in cause.consequences]


def test_equal_recordings_have_no_cause(nsa):
    assert diff(nsa(), nsa()) == ()


def test_keyword_dropped_in_the_attach_function_is_one_cause_there(nsa):
    """The seed: sglang #25022, 656-byte rows become 512 + 64 = 576."""
    (cause,) = diff(nsa(), nsa("drop override in attach"))

    assert facts(cause) == (
        Kind.ARGUMENT_DROPPED,
        Level.BEHAVIOUR,
        "build_shared_anchor_stack",
        "MLATokenToKVPoolHost",
        "override_kv_cache_dim",
    )
    assert (cause.before, cause.after) == (656, None)
    assert cause.location == Location(file="assembler/stacks/attach.py", line=123)
    assert cause.path == (
        "build_shared_anchor_stack",
        "build_kv_host_pool",
        "MLATokenToKVPoolHost",
    )
    assert wheres(cause) == [
        ("shape_changed", "host.KV.kv_buffer"),
        ("stride_changed", "host.KV.kv_buffer"),
        ("bytes_changed", "host.KV.kv_buffer"),
        ("transfer_changed", "backup KV.kv layer * in write"),
        ("transfer_changed", "load KV.kv layer * in load"),
        ("digest_changed", "host.KV in write"),
        ("digest_changed", "round trip KV in load"),
    ]
    shape = cause.consequences[0]
    assert (shape.before, shape.after) == ([2, 320, 1, 656], [2, 320, 1, 576])
    assert cause.consequences[3].count == 2


def test_headline_of_a_dropped_keyword_is_one_line(nsa):
    (cause,) = diff(nsa(), nsa("drop override in attach"))

    assert cause.headline() == (
        "argument_dropped: override_kv_cache_dim 656 -> nothing, in build_shared_anchor_stack -> "
        "MLATokenToKVPoolHost (assembler/stacks/attach.py:123), 1 scenario"
    )
    assert cause.message == (
        "attach_hybrid_nsa_pool_to_hiradix_cache no longer passes override_kv_cache_dim to "
        "build_shared_anchor_stack; it was for MLATokenToKVPoolHost."
    )


def test_keyword_dropped_lower_down_is_located_there(nsa):
    (stack,) = diff(nsa(), nsa("drop override in stack"))
    (host,) = diff(nsa(), nsa("drop override in host pool builder"))

    assert stack.location == Location(file="assembler/stacks.py", line=50)
    assert host.location == Location(file="assembler/stacks.py", line=20)
    assert facts(stack) == facts(host)
    assert stack.path == ("build_kv_host_pool", "MLATokenToKVPoolHost")
    assert host.path == ("MLATokenToKVPoolHost",)


def test_keyword_restored_is_the_same_cause_the_other_way_round(nsa):
    (cause,) = diff(nsa("drop override in attach"), nsa())

    assert facts(cause)[0] == Kind.ARGUMENT_ADDED
    assert (cause.before, cause.after) == (None, 656)


def test_golden_without_sites_gives_the_same_location(nsa):
    (cause,) = diff(nsa(sites=False), nsa("drop override in attach"))

    assert cause.location == Location(file="assembler/stacks/attach.py", line=123)


def test_two_traces_without_sites_give_no_location(nsa):
    (cause,) = diff(nsa().trace, nsa("drop override in attach").trace)

    assert cause.location is None
    assert cause.builder == "build_shared_anchor_stack"


def test_wall_that_stops_the_assembly_is_a_consequence(nsa):
    (cause,) = diff(nsa("walls"), nsa("walls", "drop override in attach"))

    assert cause.kind == Kind.ARGUMENT_DROPPED
    assert cause.location == Location(file="assembler/stacks/attach.py", line=123)
    assert wheres(cause)[0] == ("shape_changed", "host.KV.kv_buffer")
    assert wheres(cause)[-1] == ("outcome_changed", "outcome")
    assert ("transfer_removed", "backup KV.kv layer * in write") in wheres(cause)
    ended = cause.consequences[-1]
    assert ended.before == "ok"
    assert ended.after == (
        "ValueError: KV: host row must equal device row; expected 656, got 576 in assemble"
    )


def test_wall_that_does_not_fire_changes_nothing(nsa):
    assert diff(nsa(), nsa("walls")) == ()


def test_dropped_required_keyword_is_one_cause_although_all_the_rest_is_missing(nsa):
    (cause,) = diff(nsa(), nsa("drop page_size in stack"))

    assert facts(cause) == (
        Kind.ARGUMENT_DROPPED,
        Level.BEHAVIOUR,
        "build_shared_anchor_stack",
        "MLATokenToKVPoolHost",
        "page_size",
    )
    assert (cause.before, cause.after) == (64, None)
    assert cause.location == Location(file="assembler/stacks.py", line=50)
    assert ("pool_removed", "host.KV") in wheres(cause)
    assert ("transfer_removed", "load KV.kv layer * in load") in wheres(cause)
    assert cause.consequences[-1].after.startswith("TypeError: build_kv_host_pool() missing 1")


def test_two_independent_drops_are_two_causes(nsa):
    first, second = diff(nsa(), nsa("drop override in attach", "drop write_policy"))

    assert first.parameter == "override_kv_cache_dim"
    assert second.parameter == "write_policy"
    assert second.callee == "HybridCacheController"
    assert (second.before, second.after) == ("write_back", "write_through_selective")
    assert ("shape_changed", "host.KV.kv_buffer") in wheres(first)
    assert second.consequences == ()


def test_hard_coded_value_below_another_fault_is_a_cause_of_its_own(nsa):
    """The builder still has prefetch_threshold=512: what it does not pass on is its own fault."""
    first, second = diff(nsa(), nsa("drop override in attach", "hard-coded threshold"))

    assert first.parameter == "override_kv_cache_dim"
    assert facts(second) == (
        Kind.ARGUMENT_CHANGED,
        Level.BEHAVIOUR,
        "build_shared_anchor_stack",
        "HybridCacheController",
        "prefetch_threshold",
    )
    assert (second.before, second.after) == (512, 1)


def test_swapped_sibling_values_are_one_cause(nsa):
    (cause,) = diff(nsa(), nsa("swap groups"))

    assert facts(cause) == (
        Kind.ARGUMENT_CHANGED,
        Level.BEHAVIOUR,
        "build_shared_anchor_stack",
        "HybridCacheController",
        "attn_cp_group",
    )
    assert cause.location == Location(file="assembler/stacks.py", line=80)
    assert wheres(cause) == [("argument_changed", "HybridCacheController.attn_tp_group")]
    assert "attn_cp_group and attn_tp_group are swapped" in cause.message


def test_other_page_size_explains_all_that_is_derived_from_it(nsa):
    (cause,) = diff(nsa(), nsa(page_size=32))

    assert cause.kind == Kind.ARGUMENT_CHANGED
    assert (cause.callee, cause.parameter) == ("NSATokenToKVPool", "page_size")
    assert (cause.before, cause.after) == (64, 32)
    assert cause.location == Location(file="play.py", line=5)
    assert ("argument_changed", "HybridCacheController.page_size") in wheres(cause)
    assert ("shape_changed", "host.KV.kv_buffer") in wheres(cause)
    assert ("shape_changed", "device.KV.kv_buffer[*]") in wheres(cause)


def test_other_configuration_of_the_scenario_is_the_cause_of_everything(nsa):
    (cause,) = diff(nsa(), nsa(page_size=32, config={"page_size": 32}))

    assert cause.callee == "scenario"
    assert (cause.before, cause.after) == ({"page_size": 64}, {"page_size": 32})
    assert cause.level == Level.BEHAVIOUR


def test_other_configuration_without_effect_is_only_format(nsa):
    (cause,) = diff(nsa(), nsa(config={"page_size": 64, "model": "v3"}))

    assert cause.level == Level.FORMAT


def test_drop_is_a_cause_beside_another_configuration(nsa):
    head = nsa("drop write_policy", page_size=32, config={"page_size": 32})

    assert [cause.parameter for cause in diff(nsa(), head)] == [None, "write_policy"]


def test_dropped_pool_entry_is_one_cause_with_its_pool_and_transfers(nsa):
    (cause,) = diff(nsa(), nsa("drop indexer entry"))

    assert facts(cause) == (
        Kind.CALL_REMOVED,
        Level.BEHAVIOUR,
        "build_shared_anchor_stack",
        "NSAIndexerPoolHost",
        None,
    )
    assert cause.location == Location(file="assembler/stacks.py", line=40)
    assert wheres(cause) == [
        ("call_removed", "build_pool_entry in build_shared_anchor_stack"),
        ("call_removed", "PoolEntry in build_pool_entry"),
        ("argument_changed", "HostPoolGroup.entries"),
        ("pool_removed", "host.INDEXER"),
        ("transfer_removed", "backup INDEXER.index_k layer * in write"),
        ("transfer_removed", "load INDEXER.index_k layer * in load"),
    ]


def test_new_pool_entry_is_one_cause_at_its_line(nsa):
    (cause,) = diff(nsa("drop indexer entry"), nsa())

    assert (cause.kind, cause.callee) == (Kind.CALL_ADDED, "NSAIndexerPoolHost")
    assert cause.location == Location(file="assembler/stacks.py", line=60)
    assert ("pool_added", "host.INDEXER") in wheres(cause)


def test_operation_argument_dropped_by_the_caller_is_a_cause(nsa):
    (cause,) = diff(nsa(), nsa("drop node_id"))

    assert cause.kind == Kind.ARGUMENT_DROPPED
    assert (cause.callee, cause.parameter) == ("HybridCacheController.load", "node_id")
    assert (cause.before, cause.after) == (7, -1)


def test_operation_difference_is_a_consequence_of_the_assembly(nsa):
    (cause,) = diff(nsa(), nsa("drop override in attach", "drop node_id"))

    assert cause.parameter == "override_kv_cache_dim"
    assert ("argument_dropped", "HybridCacheController.load.node_id") in wheres(cause)


def test_call_line_that_runs_twice_is_one_cause(records):
    def stack(given):
        entry = {"anchor": True} if given else {}
        default = {} if given else {"anchor": False}
        return records.trace(
            records.builder("build_kv_only_stack#1"),
            records.call("PoolEntry#1", parent="build_kv_only_stack#1", defaulted=default, **entry),
            records.call("PoolEntry#2", parent="build_kv_only_stack#1", defaulted=default, **entry),
        )

    (cause,) = diff(stack(given=True), stack(given=False))

    assert (cause.kind, cause.parameter, cause.count) == (Kind.ARGUMENT_DROPPED, "anchor", 2)
    assert cause.consequences == ()


def test_line_that_matters_for_one_of_its_calls_shows_that_call(records):
    def stack(*, given):
        def entry(label, anchor):
            passed = {"anchor": anchor} if given else {}
            left = {} if given else {"anchor": False}
            return records.call(label, defaulted=left, **passed)

        return records.trace(entry("PoolEntry#1", False), entry("PoolEntry#2", True))

    (cause,) = diff(stack(given=True), stack(given=False))

    assert (cause.before, cause.after) == (True, False)
    assert (cause.level, cause.count) == (Level.BEHAVIOUR, 2)


def test_values_swapped_between_two_calls_are_one_cause(records):
    def stack(first, second):
        return records.trace(
            records.call("Host#1"),
            records.call("Other#1"),
            records.call("PoolEntry#1", name="kv", host_pool={"ref": first}),
            records.call("PoolEntry#2", name="swa", host_pool={"ref": second}),
        )

    (cause,) = diff(stack("Host#1", "Other#1"), stack("Other#1", "Host#1"))

    assert (cause.callee, cause.parameter) == ("PoolEntry", "host_pool")
    assert wheres(cause) == [("argument_changed", "PoolEntry.host_pool")]


def test_attach_without_stack_builder_is_the_builder_to_name(records):
    def stack(**given):
        return records.trace(
            records.builder("attach_pool#1"),
            records.call("HybridCacheController#1", parent="attach_pool#1", **given),
        )

    (cause,) = diff(stack(page_size=1), stack(page_size=2))

    assert cause.builder == "attach_pool"


def test_wrapper_in_an_operation_belongs_to_the_assembly(records):
    def stack(group):
        return records.trace(
            records.operation("Cache.init_hicache#1", group=group),
            records.builder("build_kv_only_stack#1", parent="Cache.init_hicache#1", tp_group=group),
            records.call("HybridCacheController#1", parent="build_kv_only_stack#1", tp_group=group),
        )

    (cause,) = diff(stack("tp"), stack("world"))

    assert cause.path == ("Cache.init_hicache", "build_kv_only_stack", "HybridCacheController")
    assert cause.builder == "build_kv_only_stack"


def test_object_that_is_no_longer_made_because_nobody_takes_it_is_a_consequence(records):
    """The dropped keyword's value was a constructor call: it is gone with the keyword."""

    def stack(**given):
        made = [records.call("Indexer#1", parent="build_a_stack#1")] if given else []
        left = {} if given else {"host_pool": None}
        return records.trace(
            records.builder("build_a_stack#1"),
            *made,
            records.call("PoolEntry#1", parent="build_a_stack#1", defaulted=left, **given),
        )

    (cause,) = diff(stack(host_pool={"ref": "Indexer#1"}), stack())

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_DROPPED, "host_pool")
    assert wheres(cause) == [("call_removed", "Indexer in build_a_stack")]


def test_swap_that_is_visible_in_two_calls_of_one_line_is_one_cause(records):
    def stack(*entries):
        calls = [
            records.call(
                f"PoolEntry#{ordinal}", parent="build_pool_entry#1", anchor=anchor, evict=evict
            )
            for ordinal, (anchor, evict) in enumerate(entries, start=1)
        ]
        return records.trace(records.builder("build_pool_entry#1"), *calls)

    (cause,) = diff(stack((True, None), (False, 7)), stack((None, True), (7, False)))

    assert (cause.parameter, cause.count) == ("anchor", 2)
    assert wheres(cause) == [("argument_changed", "PoolEntry.evict")]


def test_value_of_the_scenario_that_follows_another_fault_is_a_consequence(records):
    def stack(page_size, ratio):
        return records.trace(
            records.builder("build_a_stack#1"),
            records.call("Host#1", parent="build_a_stack#1", page_size=page_size),
            records.call("Host#2", ratio=ratio),
        )

    (cause,) = diff(stack(16, 2.5), stack(1, 2.4))

    assert cause.parameter == "page_size"
    assert wheres(cause) == [("argument_changed", "Host.ratio")]


def test_operation_with_another_value_and_equal_events_before_it_is_a_cause(records):
    def evict(number):
        fields = {"num_tokens": 16, "mamba_num": number}
        params = {"object": "EvictParams", "fields": fields}
        return records.operation("Cache.evict#1", step="pressure", params=params)

    (cause,) = diff(records.trace(evict(1)), records.trace(evict(0)))

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_CHANGED, "params.mamba_num")
