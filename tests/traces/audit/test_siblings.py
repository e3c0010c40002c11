"""Siblings that call one function in different ways."""

from traces.audit.siblings import sibling_disagreements

GROUP = {"group": "pp", "ranks": [0, 1], "rank": 1}


def stack(made, *attaches, defaults=None, config=None, entry=None):
    """Attach functions that each call ``build_stack`` once: name, given, left out."""
    recordings = {}
    for number, (attach, given, left_out) in enumerate(attaches):
        name = f"s{number}"
        calls = [
            made.call(f"{attach}#1", entry or {"cache": {"ref": "Cache#1"}}, role="builder"),
            made.call(
                "build_stack#1",
                given,
                parent=f"{attach}#1",
                role="builder",
                line=10 + number,
                left_out=left_out,
            ),
        ]
        recordings[name] = made.recording(
            name,
            *calls,
            config=(config or {}).get(name),
            defaults=defaults or {"build_stack": {"pp_group": None}},
        )
    return recordings


def wheres(recordings):
    return [cause.where for cause in sibling_disagreements(recordings)]


def test_who_leaves_out_what_its_sibling_passes_is_named_with_both_lines(made):
    recordings = stack(
        made,
        ("attach_dsa", {"page_size": 64}, {"pp_group": None}),
        ("attach_mamba", {"page_size": 64, "pp_group": GROUP}, {}),
    )
    [found] = sibling_disagreements(recordings)
    assert found.where == "attach_dsa -> build_stack.pp_group"
    assert (found.builder, found.callee, found.parameter) == (
        "attach_dsa",
        "build_stack",
        "pp_group",
    )
    assert (found.before, found.after) == (GROUP, None)
    assert (found.location.file, found.location.line) == ("assembler/stacks.py", 10)
    assert found.message == (
        "attach_dsa leaves pp_group of build_stack out; "
        "attach_mamba (assembler/stacks.py:11) passes it."
    )


def test_siblings_that_both_pass_it_agree(made):
    recordings = stack(
        made,
        ("attach_dsa", {"pp_group": GROUP}, {}),
        ("attach_mamba", {"pp_group": GROUP}, {}),
    )
    assert wheres(recordings) == []


def test_an_explicit_default_is_as_good_as_none(made):
    recordings = stack(
        made,
        ("attach_dsa", {}, {"pp_group": None}),
        ("attach_mamba", {"pp_group": None}, {}),
    )
    assert wheres(recordings) == []


def test_the_scenario_itself_is_a_sibling_that_passes(made):
    recordings = stack(made, ("attach_dsa", {}, {"pp_group": None}))
    recordings["direct"] = made.recording(
        "direct",
        made.call("build_stack#1", {"pp_group": GROUP}, role="builder"),
        defaults={"build_stack": {"pp_group": None}},
    )
    [found] = sibling_disagreements(recordings)
    assert found.where == "attach_dsa -> build_stack.pp_group"
    assert "the scenario itself passes it" in found.message


def test_a_constant_beside_a_field_is_a_different_source(made):
    config = {"s0": {"layout": "page_first"}, "s1": {"layout": "layer_first"}}
    config["s2"] = {"layout": "layer_first"}
    given = [
        ("attach_a", {"layout": "page_first"}, {}),
        ("attach_a", {"layout": "layer_first"}, {}),
    ]
    constant = ("attach_b", {"layout": "page_first"}, {})
    [found] = sibling_disagreements(stack(made, *given, constant, config=config, defaults={}))
    assert found.where == "attach_b -> build_stack.layout"
    assert found.before == ["config.layout"]
    field = ("attach_b", {"layout": "layer_first"}, {})
    assert sibling_disagreements(stack(made, *given, field, config=config, defaults={})) == ()


def test_calls_for_different_pools_are_no_siblings(made):
    """An anchor has no callback to evict with, a sidecar does."""

    def entries(sidecar_pool):
        return {
            "a": made.recording(
                "a",
                made.call("build_kv_only_stack#1", {"size": 8}, role="builder"),
                made.call("PoolEntry#1", {"name": "kv"}, parent="build_kv_only_stack#1",
                          left_out={"evict": None}),
                made.call("build_mamba_stack#1", {"size": 8}, role="builder"),
                made.call("PoolEntry#2", {"name": sidecar_pool, "evict": {"callable": True}},
                          parent="build_mamba_stack#1"),
                defaults={"PoolEntry": {"evict": None}},
            )
        }  # fmt: skip

    assert wheres(entries("mamba")) == []
    assert wheres(entries("kv")) == ["build_kv_only_stack -> PoolEntry[kv].evict"]


def test_a_value_that_the_caller_was_given_is_not_its_choice(made):
    """Both stacks hand on what they get; in the recorded scenarios one always gets the same."""

    def recording(name, limit):
        return made.recording(
            name,
            made.call("build_a_stack#1", {"limit": limit}, role="builder"),
            made.call("Controller#1", {"limit": limit}, parent="build_a_stack#1"),
            made.call("build_b_stack#1", {"limit": None}, role="builder"),
            made.call("Controller#2", {"limit": None}, parent="build_b_stack#1"),
            config={"limit": limit},
        )

    found = sibling_disagreements({name: recording(name, ord(name)) for name in "ab"})

    assert [cause.where for cause in found] == []


def test_a_constant_of_its_own_beside_fields_is_a_choice(made):
    """Control: the caller was given another value, or none."""

    def recording(name, limit):
        return made.recording(
            name,
            made.call("build_a_stack#1", {"limit": limit}, role="builder"),
            made.call("Controller#1", {"limit": limit}, parent="build_a_stack#1"),
            made.call("build_b_stack#1", {}, role="builder"),
            made.call("Controller#2", {"limit": 256}, parent="build_b_stack#1"),
            config={"limit": limit},
        )

    found = sibling_disagreements({name: recording(name, ord(name)) for name in "ab"})

    assert [cause.where for cause in found] == ["build_b_stack -> Controller.limit"]
