"""A refactor that moves no byte must not raise an alarm: no difference at ``behaviour`` level.

Each test rewrites the wiring in one of the ways reviewers see every week, plays one scenario of
every builder, and reads the gate's verdict. The control rewrites a value instead.
"""

import libcst as cst
import pytest

from traces.targets.native.scenarios import BUILDERS, registry

WIRING = (
    "assembler/stacks/attach.py",
    "assembler/stacks/kv_only.py",
    "assembler/stacks/hybrid_swa.py",
    "assembler/stacks/hybrid_mamba.py",
    "assembler/stacks/shared_anchor.py",
    "assembler/stacks/parts.py",
)


def one_scenario_of_every_builder():
    return [
        next(name for name, scenario in registry().items() if scenario.builder == builder)
        for builder in BUILDERS
    ]


def rewrite(checkout, files, transformer):
    """Apply a transformation; it must change something."""
    changed = 0
    for file in files:
        before = cst.parse_module(checkout.read(file))
        after = before.visit(transformer())
        changed += after.code != before.code
        checkout.write(file, after.code)
    assert changed > 0


def behaviour_causes(checkout):
    code, verdict = checkout.gate(*one_scenario_of_every_builder())
    assert verdict["problems"] == []
    causes = [cause for cause in verdict["causes"] if cause["level"] == "behaviour"]
    assert code == (1 if causes else 0)
    return [(cause["kind"], cause["parameter"], cause["message"]) for cause in causes]


class ReverseKeywords(cst.CSTTransformer):
    """Writes the keywords of every call in the opposite order."""

    def leave_Call(self, original_node, updated_node):
        positional = [a for a in updated_node.args if a.keyword is None]
        keywords = [a for a in updated_node.args if a.keyword is not None]
        if len(keywords) < 2:
            return updated_node
        ordered = [*positional, *reversed(keywords)]
        return updated_node.with_changes(args=[a.with_changes(comma=cst.Comma()) for a in ordered])


def test_keywords_in_another_order(checkout):
    rewrite(checkout, WIRING, ReverseKeywords)
    assert behaviour_causes(checkout) == []


class RenameLocals(cst.CSTTransformer):
    """Renames some local variables of the builders."""

    NAMES = ("kv_host_pool", "swa_slots", "state_slots", "layers", "host_pool_group")

    def leave_Name(self, original_node, updated_node):
        if updated_node.value in self.NAMES:
            return updated_node.with_changes(value=f"renamed_{updated_node.value}")
        return updated_node


def test_renamed_locals(checkout):
    rewrite(checkout, WIRING, RenameLocals)
    assert behaviour_causes(checkout) == []


def test_extracted_helper(checkout):
    file = "assembler/stacks/shared_anchor.py"
    text = checkout.read(file)
    start = text.index("    kv_host_pool = mirror_token_pool(")
    end = text.index("    kv = layers.entry(")
    body = text[start:end].replace("kv_host_pool = ", "return ")
    names = ("kv_pool", "settings", "use_mla", "override_kv_cache_dim")
    call = ", ".join(f"{name}={name}" for name in names)
    helper = f"\n\ndef _anchor_host(*, {', '.join(names)}):\n{body}"
    checkout.write(
        file, text[:start] + f"    kv_host_pool = _anchor_host({call})\n" + text[end:] + helper
    )
    assert behaviour_causes(checkout) == []


def test_new_layer_between_attach_function_and_builder(checkout):
    checkout.replace(
        "assembler/stacks/attach.py",
        "from assembler.stacks.shared_anchor import build_shared_anchor_stack\n",
        "from assembler.stacks.shared_anchor import build_shared_anchor_stack as _build\n",
    )
    text = checkout.read("assembler/stacks/attach.py")
    wrapper = "\n\ndef build_shared_anchor_stack(**arguments):\n    return _build(**arguments)\n"
    checkout.write("assembler/stacks/attach.py", text + wrapper)
    assert behaviour_causes(checkout) == []


def test_builder_moved_to_another_module_with_a_re_export(checkout):
    old = "assembler/stacks/hybrid_swa.py"
    checkout.write("assembler/stacks/windows.py", checkout.read(old))
    checkout.write(
        old,
        '"""Moved."""\n\nfrom assembler.stacks.windows import build_hybrid_swa_stack\n\n'
        '__all__ = ["build_hybrid_swa_stack"]\n',
    )
    assert behaviour_causes(checkout) == []


def test_positional_arguments_turned_into_keywords(checkout):
    checkout.replace(
        "assembler/stacks/parts.py",
        "        settings.params.token_to_kv_pool_allocator,\n        host_pool_group,\n"
        "        settings.page_size,\n        settings.tp_group,\n",
        "        token_to_kv_pool_allocator=settings.params.token_to_kv_pool_allocator,\n"
        "        mem_pool_host=host_pool_group,\n"
        "        page_size=settings.page_size,\n        tp_group=settings.tp_group,\n",
    )
    assert behaviour_causes(checkout) == []


def test_explicit_argument_equal_to_the_default(checkout):
    model_name = "        model_name=server_args.served_model_name,\n"
    explicit = f"        prefetch_threshold=256,\n{model_name}"
    checkout.replace("assembler/stacks/attach.py", model_name, explicit)
    assert behaviour_causes(checkout) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "parameter"),
    [
        ("shared_anchor", "        tp_group=tp_group,\n", "        tp_group=None,\n", "tp_group"),
        ("parts", "is_anchor=name is PoolName.KV", "is_anchor=False", None),
    ],
)
def test_control_a_changed_value_is_an_alarm(checkout, file, old, new, parameter):
    file = f"assembler/stacks/{file}.py"
    text = checkout.read(file)
    assert old in text
    checkout.write(file, text.replace(old, new, 1))
    causes = behaviour_causes(checkout)
    assert causes
    assert parameter is None or causes[0][1] == parameter
