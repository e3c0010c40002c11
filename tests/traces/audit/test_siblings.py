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


def built(made, name, *, label=None, width=656, below=None, pool="kv"):
    """One stack whose builder makes a host pool, and an entry of a name for it."""
    arguments = {"width": width} if width is not None else {}
    left_out = {} if width is not None else {"width": None}
    given = {**arguments, **({"label": label} if label else {})}
    builder = "build_a_stack" if width is not None else "build_b_stack"
    return made.recording(
        name,
        made.call(f"{builder}#1", {}, role="builder"),
        made.call("build_pool#1", given, parent=f"{builder}#1", role="builder",
                  left_out={**left_out, **({} if label else {"label": "kv"})},
                  returns={"ref": "Host#1"}, line=5 if width is not None else 6),
        made.call("Host#1", {"width": below, "label": label or "kv"}, parent="build_pool#1",
                  returns={"ref": "Host#1"}),
        made.call("PoolEntry#1", {"name": pool, "host_pool": {"ref": "Host#1"}},
                  parent=f"{builder}#1"),
        tensors=[made.tensor("host.KV", object="Host#1")],
        defaults={"build_pool": {"width": None, "label": "kv"}},
    )  # fmt: skip


def of_builders(recordings):
    return [where for where in wheres(recordings) if where.startswith("build_b_stack")]


def test_a_number_that_is_left_out_and_found_below_is_no_disagreement(made):
    passing = {"a": built(made, "a", below=656), "c": built(made, "c", width=576, below=576)}
    found_below = {**passing, "b": built(made, "b", width=None, below=656)}
    lost_below = {**passing, "b": built(made, "b", width=None, below=None)}

    assert of_builders(found_below) == []
    assert of_builders(lost_below) == ["build_b_stack -> build_pool.width"]


def test_a_number_that_nothing_below_takes_is_no_disagreement(made):
    """The host pool of keys and values has no width of a latent row."""
    builder = "build_b_stack"
    calls = [
        made.call(f"{builder}#1", {}, role="builder"),
        made.call("build_pool#1", {}, parent=f"{builder}#1", role="builder",
                  left_out={"width": None}, returns={"ref": "Host#1"}),
        made.call("PoolEntry#1", {"name": "kv", "host_pool": {"ref": "Host#1"}},
                  parent=f"{builder}#1"),
    ]  # fmt: skip
    passing = {"a": built(made, "a", below=656), "c": built(made, "c", width=576, below=576)}
    other = made.call("HostOfKeys#1", {"head_num": 8}, parent="build_pool#1")
    latent = made.call("Host#1", {}, parent="build_pool#1", left_out={"width": None})

    def with_host(host):
        tensors = [made.tensor("host.KV", object="Host#1")]
        return {**passing, "b": made.recording("b", *calls, host, tensors=tensors)}

    assert of_builders(with_host(other)) == []
    assert of_builders(with_host(latent)) == ["build_b_stack -> build_pool.width"]


def test_a_literal_of_a_sibling_is_its_own_choice(made):
    """A label that is the same in all scenarios says nothing to others; one that changes does."""
    without = {"b": built(made, "b", width=None, below=656)}
    same = {name: built(made, name, label="full", below=656) for name in ("a", "c")}
    unlike = {name: built(made, name, label=name, below=656) for name in ("a", "c")}

    assert of_builders({**same, **without}) == []
    assert of_builders({**unlike, **without}) == ["build_b_stack -> build_pool.label"]


def test_the_pool_of_a_draft_is_no_sibling_of_the_models_pool(made):
    passing = {"a": built(made, "a", below=656), "c": built(made, "c", width=576, below=576)}

    def with_pool(pool):
        return {**passing, "b": built(made, "b", width=None, below=None, pool=pool)}

    assert of_builders(with_pool("draft")) == []
    assert of_builders(with_pool("kv")) == ["build_b_stack -> build_pool.width"]


def test_an_entry_of_a_pool_without_a_buffer_mirrors_nothing(made):
    drafts = [{"ref": "Draft#1"}, {"ref": "Draft#2"}]

    def entries(label):
        return {
            "a": made.recording(
                "a",
                made.call("build_a_stack#1", {}, role="builder"),
                made.call("PoolEntry#1", {"name": "kv", "host_pool": {"ref": "Host#1"},
                                          "drafts": drafts}, parent="build_a_stack#1"),
                made.call("build_b_stack#1", {}, role="builder"),
                made.call("PoolEntry#2", {"name": "kv", "host_pool": {"ref": label}},
                          parent="build_b_stack#1", left_out={"drafts": []}),
                tensors=[made.tensor("host.KV", object="Host#1")],
                defaults={"PoolEntry": {"drafts": []}},
            )
        }  # fmt: skip

    assert of_builders(entries("LogicalHost#1")) == []
    assert of_builders(entries("Host#1")) == ["build_b_stack -> PoolEntry[kv].drafts"]


def test_a_constant_that_equals_what_the_others_take_from_a_field_agrees(made):
    config = {"s0": {"layout": "page_first"}, "s1": {"layout": "layer_first"}}
    config["s2"] = {"layout": "layer_first"}
    siblings = [
        ("attach_mamba", {"layout": "page_first"}, {}),
        ("attach_mamba", {"layout": "layer_first"}, {}),
    ]

    def constant(layout):
        return stack(made, *siblings, ("attach_dsa", {"layout": layout}, {}), config=config)

    assert wheres(constant("layer_first")) == []
    assert wheres(constant("page_head")) == ["attach_dsa -> build_stack.layout"]


def test_a_draft_is_missed_only_where_there_is_one(made):
    """MiniMax has no draft: its builder has none to pass."""
    drafts = [{"ref": "Draft#1"}]

    def builders(trips):
        draft = made.tensor("device.DRAFT", object="Draft#1")
        host = made.tensor("host.KV", object="Host#1")
        given = {"name": "kv", "host_pool": {"ref": "Host#1"}}
        return {
            "a": made.recording(
                "a",
                made.call("build_a_stack#1", {}, role="builder"),
                made.call("PoolEntry#1", {**given, "drafts": drafts}, parent="build_a_stack#1"),
                tensors=[draft, host],
                defaults={"PoolEntry": {"drafts": []}},
            ),
            "b": made.recording(
                "b",
                made.call("build_b_stack#1", {}, role="builder"),
                made.call("PoolEntry#1", given, parent="build_b_stack#1",
                          left_out={"drafts": []}),
                tensors=[host],
                digests=trips,
                defaults={"PoolEntry": {"drafts": []}},
            ),
        }  # fmt: skip

    assert of_builders(builders([])) == []
    assert of_builders(builders([made.trip("DRAFT.kv_buffer", wrong="64")])) == [
        "build_b_stack -> PoolEntry[kv].drafts"
    ]
