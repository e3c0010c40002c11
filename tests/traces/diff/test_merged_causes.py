import msgspec

from traces.diff import compare_sides, diff, merge_causes
from traces.schema.model import Location
from traces.schema.verdict import Kind, Level


def sides(nsa, *edits, names=("nsa_a", "nsa_b", "nsa_c")):
    base = {name: nsa(name=name) for name in names}
    return base, {name: nsa(*edits, name=name) for name in names}


def test_equal_causes_over_scenarios_are_one_cause(nsa):
    (cause,) = compare_sides(*sides(nsa, "drop override in attach"))

    assert cause.scenarios == ("nsa_a", "nsa_b", "nsa_c")
    assert cause.variants == ()
    assert cause.headline().endswith("(assembler/stacks/attach.py:123), 3 scenarios")
    shape, *_ = cause.consequences
    assert (shape.where, shape.count) == ("host.KV.kv_buffer", 3)


def test_sides_that_are_equal_have_no_cause(nsa):
    assert compare_sides(*sides(nsa)) == ()


def test_scenario_that_is_gone_or_new_is_a_cause(nsa):
    base = {"nsa_a": nsa(), "nsa_b": nsa()}
    head = {"nsa_a": nsa(), "nsa_c": nsa()}

    removed, added = compare_sides(base, head)

    assert (removed.kind, removed.scenarios) == (Kind.SCENARIO_REMOVED, ("nsa_b",))
    assert (added.kind, added.scenarios) == (Kind.SCENARIO_ADDED, ("nsa_c",))


def test_same_line_with_other_values_is_one_cause_with_variants(nsa):
    base = {"fp8": nsa(), "other": nsa("other override")}
    head = {name: nsa("drop override in attach") for name in base}

    (cause,) = compare_sides(base, head)

    assert [(one.before, one.scenarios) for one in cause.variants] == [
        (656, ("fp8",)),
        (640, ("other",)),
    ]
    assert (cause.before, cause.after) == (656, None)


def test_cause_is_as_bad_as_in_its_worst_scenario(nsa):
    (fp8,) = diff(nsa(), nsa("drop override in attach"))
    bf16 = msgspec.structs.replace(
        fp8, level=Level.INTERFACE, before=576, after=576, consequences=()
    )

    (cause,) = merge_causes({"a_bf16": (bf16,), "b_fp8": (fp8,)})

    assert cause.level == Level.BEHAVIOUR
    assert (cause.before, cause.after) == (656, None)
    assert cause.scenarios == ("a_bf16", "b_fp8")


def test_causes_at_different_lines_stay_apart(nsa):
    base = {"a": nsa(), "b": nsa()}
    head = {"a": nsa("drop override in attach"), "b": nsa("drop override in stack")}

    causes = compare_sides(base, head)

    assert [cause.location for cause in causes] == [
        Location(file="assembler/stacks/attach.py", line=123),
        Location(file="assembler/stacks.py", line=50),
    ]


def test_causes_without_line_are_merged_by_builder_and_callee(nsa):
    broken = diff(nsa().trace, nsa("drop override in attach").trace)

    (cause,) = merge_causes({"a": broken, "b": broken})

    assert (cause.location, cause.scenarios) == (None, ("a", "b"))


def test_behaviour_comes_before_interface_and_upstream_before_downstream(nsa):
    head = nsa("drop wait in read", "drop layout", "explicit default")
    (cause, *interface) = diff(nsa(), head)

    assert cause.level == Level.BEHAVIOUR
    assert [one.parameter for one in interface] == ["layout", "model_name"]


def test_order_of_the_scenarios_does_not_matter(nsa):
    broken = diff(nsa(), nsa("drop override in attach", "drop write_policy"))
    other = diff(nsa(), nsa("drop write_policy"))

    assert merge_causes({"a": broken, "b": other}) == merge_causes({"b": other, "a": broken})


def test_events_lost_on_one_line_are_one_cause_whatever_pool_they_move(nsa):
    (kv,) = diff(nsa(), nsa("drop load of layer 1"))
    other = msgspec.structs.replace(kv, where="load SWA.k layer 0 in load")

    (cause,) = merge_causes({"a": (kv,), "b": (other,)})

    assert cause.scenarios == ("a", "b")
    assert cause.where == "load KV.kv layer 1 in load"


def test_cause_that_shows_in_bytes_comes_before_one_that_nothing_follows_from(nsa):
    """The decorative parameter is further upstream, and still not the line to look at."""
    (telling,) = diff(nsa(), nsa("drop override in attach"))
    upstream = msgspec.structs.replace(
        telling, parameter="attn_cp_rank", consequences=(), rank=(0, 0)
    )

    causes = merge_causes({"nsa": (upstream, telling)})

    assert [cause.parameter for cause in causes] == ["override_kv_cache_dim", "attn_cp_rank"]


def test_without_consequences_on_either_the_more_upstream_cause_comes_first(nsa):
    """Control: the order of rank is what decides between alike."""
    (telling,) = diff(nsa(), nsa("drop override in attach"))
    late = msgspec.structs.replace(telling, consequences=(), rank=(0, 9))
    early = msgspec.structs.replace(telling, parameter="attn_cp_rank", consequences=(), rank=(0, 0))

    causes = merge_causes({"nsa": (late, early)})

    assert [cause.parameter for cause in causes] == ["attn_cp_rank", "override_kv_cache_dim"]


def test_parameter_that_many_functions_rename_is_one_cause(nsa):
    (renamed,) = diff(nsa(), nsa("drop override in attach"))
    renamed = msgspec.structs.replace(
        renamed, kind=Kind.RENAMED, parameter="width", before="dim", after="width"
    )
    elsewhere = msgspec.structs.replace(
        renamed, callee="build_kv_only_stack", location=Location(file="assembler/kv.py", line=7)
    )
    other = msgspec.structs.replace(elsewhere, before="size")

    (cause,) = merge_causes({"a": (renamed,), "b": (elsewhere,)})
    apart = merge_causes({"a": (renamed,), "b": (other,)})

    assert cause.scenarios == ("a", "b")
    assert [one.before for one in apart] == ["dim", "size"]
