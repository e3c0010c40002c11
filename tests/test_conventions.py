"""House rules that a reviewer would otherwise have to remember."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Published signatures: the field's own defaults are part of them.
PUBLISHED = {
    "assembler/stacks/kv_only.py": {"build_kv_only_stack"},
    "assembler/stacks/hybrid_swa.py": {"build_hybrid_swa_stack"},
    "assembler/stacks/hybrid_mamba.py": {"build_hybrid_mamba_stack"},
    "assembler/stacks/shared_anchor.py": {"build_shared_anchor_stack"},
    "assembler/stacks/attach.py": {
        "attach_hybrid_pool_to_unified_cache",
        "attach_hybrid_nsa_pool_to_hiradix_cache",
        "attach_hybrid_pool_to_mamba_cache",
    },
    "assembler/controller/hybrid.py": {"__init__", "write", "load", "evict_host"},
    "assembler/controller/attachment.py": {"attach_storage_backend"},
    "assembler/cache/hierarchical.py": {"writing_check", "load_back"},
    "assembler/cache/keys.py": {"__init__"},
}
TARGETS = {"assembler", "sglang"}


def modules(package):
    return [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / package).rglob("*.py"))]


def tree_of(file):
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def functions(tree):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def tops(file):
    return {name.split(".")[0] for name in imported(tree_of(file))}


@pytest.mark.parametrize("file", modules("assembler"))
def test_assembler_imports_neither_traces_nor_tools(file):
    assert tops(file) & {"traces", "tools", "tests"} == set()


# A class of the release's own kind, which the release itself imports by its path.
STORAGE_BACKEND = "traces/targets/sglang/storage/backend.py"


@pytest.mark.parametrize("file", modules("traces"))
def test_trace_core_imports_no_tool_and_only_adapters_import_the_target(file):
    assert tops(file) & {"tools", "tests"} == set()
    targets = {name for name in imported(tree_of(file)) if name.split(".")[0] in TARGETS}
    if file.startswith("traces/simulator/"):
        # The simulator implements the device interface.
        assert [
            n
            for n in targets
            if n not in ("assembler.device", "assembler.errors")
            and not n.startswith("assembler.device.")
        ] == []
    elif file.startswith("traces/targets/native"):
        assert {name.split(".")[0] for name in targets} <= {"assembler"}
    elif file == STORAGE_BACKEND:
        assert targets == {"sglang.srt.mem_cache.hicache_storage"}
    elif file.startswith("traces/targets/"):
        # Streams of every target are those of the accelerator, real or simulated.
        assert [n for n in targets if not f"{n}.".startswith("assembler.device.")] == []
    else:
        assert targets == set()


@pytest.mark.parametrize("file", modules("assembler"))
def test_below_the_published_signatures_nothing_has_a_default(file):
    defaulted = [
        f"{function.name}: {ast.unparse(default)}"
        for function in functions(tree_of(file))
        for default in (*function.args.defaults, *function.args.kw_defaults)
        if default is not None and function.name not in PUBLISHED.get(file, ())
    ]
    assert defaulted == []


CLOCKS = {"perf_counter", "perf_counter_ns", "process_time", "process_time_ns"}


@pytest.mark.parametrize("file", modules("tests"))
def test_no_test_measures_a_time(file):
    """A busy machine makes such a test fail, a generous limit makes it blind: `bench` measures."""
    read = {n.attr for n in ast.walk(tree_of(file)) if isinstance(n, ast.Attribute)}
    assert read & CLOCKS == set()


@pytest.mark.parametrize("file", modules("assembler"))
def test_no_parameter_list_swallows_keywords(file):
    swallowing = [f.name for f in functions(tree_of(file)) if f.args.kwarg is not None]
    assert swallowing == []


@pytest.mark.parametrize("file", [*modules("assembler"), *modules("traces"), *modules("tools")])
def test_module_is_short_enough_to_read(file):
    lines = (ROOT / file).read_text(encoding="utf-8").count("\n")
    assert lines <= 400


@pytest.mark.parametrize("file", modules("assembler"))
def test_packed_row_widths_are_computed_and_never_written_down(file):
    numbers = [n.value for n in ast.walk(tree_of(file)) if isinstance(n, ast.Constant)]
    assert not {576, 656} & {n for n in numbers if isinstance(n, int)}


def test_the_default_rule_would_see_a_default():
    """Control: the published modules do have defaults, and the rule's own reading finds them."""
    found = [
        default
        for function in functions(tree_of("assembler/stacks/kv_only.py"))
        for default in function.args.kw_defaults
        if default is not None
    ]
    assert len(found) == 10
