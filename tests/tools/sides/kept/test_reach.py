"""Which runs a change of a tree may reach."""

import shutil
from pathlib import Path

import pytest

from tools.sides.kept.reach import compare_trees, unexecuted_functions
from tools.sides.kept.trees import read_tree
from tools.workers.protocol import Reach

POOL = "def build(n):\n    return n + 1\n\n\ndef unused():\n    return 0\n"


def reach(functions=None, *, opened=(), unsure=(), facts=None, names=()):
    return Reach(
        functions=functions or {},
        opened=opened,
        variables=(),
        unsure=unsure,
        facts=facts or {},
        names=names,
    )


IMPORTS = reach({"pkg/__init__.py": ("",), "pkg/pool.py": ("",), "pkg/setup.py": ("", "prepare")})
BUILDS = reach({"pkg/pool.py": ("build",)})
OTHER = reach({"pkg/pool.py": ("other",)})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "pkg"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "pool.py").write_text(POOL)
    (folder / "setup.py").write_text("def prepare():\n    return 1\n\n\nVALUE = prepare()\n")
    (folder / "lazy.py").write_text("VALUE = 1\n")
    (folder / "never.py").write_text("VALUE = 1\n")
    (folder / "kernel.cu").write_text("int x;\n")
    return tmp_path


@pytest.fixture
def unexecuted(tree, tmp_path_factory):
    """Change files, and return the changed functions that are not in a reach."""
    root = tmp_path_factory.mktemp("base")
    shutil.copytree(tree / "pkg", root / "pkg")
    before = read_tree(root, folder="pkg", release="1.0")

    def apply(edits: dict[str, str], reached: Reach):
        for file, text in edits.items():
            (tree / file).write_text(text)
        after = read_tree(tree, folder="pkg", release="1.0")
        return unexecuted_functions(before, after, reach=reached)

    return apply


@pytest.fixture
def change(tree):
    """Change files, and return what that changes of the tree."""
    before = read_tree(tree, folder="pkg", release="1.0")
    texts = {file: (tree / file).read_text() for file in before.files if file.endswith(".py")}

    def apply(edits: dict[str, str | None], *, release="1.0", imports=IMPORTS):
        for file, text in edits.items():
            if text is None:
                (tree / file).unlink()
            else:
                (tree / file).write_text(text)
        after = read_tree(tree, folder="pkg", release=release)
        return compare_trees(before, after, texts=texts, imports=imports)

    return apply


def test_changed_function_reaches_the_runs_that_executed_it(change):
    found = change({"pkg/pool.py": POOL.replace("n + 1", "n + 2")})
    assert found.everything == ""
    assert found.reaches(BUILDS)
    assert not found.reaches(OTHER)


def test_function_that_nothing_runs_reaches_nothing(change):
    found = change({"pkg/pool.py": POOL.replace("return 0", "return 5")})
    assert found.everything == ""
    assert not found.reaches(BUILDS)


def test_comment_changes_nothing(change):
    found = change({"pkg/pool.py": f"# Pools.\n{POOL}"})
    assert found.everything == ""
    assert dict(found.modules) == {}


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        (
            {"pkg/pool.py": f"LIMIT = 3\n{POOL}"},
            "pkg/pool.py: code outside functions has changed",
        ),
        (
            {"pkg/setup.py": "def prepare():\n    return 2\n\n\nVALUE = prepare()\n"},
            "pkg/setup.py: a function run at import has changed",
        ),
        ({"pkg/new.py": ""}, "pkg/new.py was added"),
        ({"pkg/never.py": None}, "pkg/never.py was removed"),
        ({"pkg/kernel.cu": "int y;\n"}, "pkg/kernel.cu has changed"),
        ({"pkg/pool.py": "def broken(:"}, "pkg/pool.py: code outside functions has changed"),
    ],
)
def test_what_every_run_depends_on_reaches_everything(change, edits, reason):
    found = change(edits)
    assert found.everything == reason
    assert found.reaches(OTHER)


def test_module_that_only_some_runs_import_reaches_those(change):
    found = change({"pkg/lazy.py": "VALUE = 2\n"})
    assert found.everything == ""
    assert found.reaches(reach({"pkg/lazy.py": ("",)}))
    assert not found.reaches(BUILDS)


def test_module_that_nothing_imports_reaches_nothing(change):
    found = change({"pkg/never.py": "VALUE = 2\n"})
    assert found.everything == ""
    assert not found.reaches(BUILDS)


def test_file_that_a_run_opened_reaches_that_run(change):
    found = change({"pkg/never.py": "VALUE = 2\n"})
    assert found.reaches(reach(opened=("pkg/never.py",)))


def test_name_that_the_import_looks_for_reaches_everything(change):
    text = POOL.replace("return 0", "return POOL.load_kernel")
    reads = reach({"pkg/pool.py": ("",)}, names=("load_kernel",))
    found = change({"pkg/pool.py": text}, imports=reads)
    assert found.everything == "pkg/pool.py: a name that the import looks for has changed"
    others = reach({"pkg/pool.py": ("",)}, names=("save_kernel",))
    assert change({"pkg/pool.py": text}, imports=others).everything == ""


FORWARD = "self.cache_controller.fence = self.forward_stream\n"
LEARNT = {
    "traces.targets.sglang.source_facts:forward_stream_attributes": {"pkg/pool.py": "('fence',)"}
}


@pytest.mark.parametrize(
    ("line", "is_reached"),
    [(FORWARD, False), (FORWARD.replace("fence", "other"), True)],
)
def test_a_run_is_reached_by_a_change_of_what_it_learnt_from_a_file(change, line, is_reached):
    found = change({"pkg/pool.py": POOL.replace("    return 0", f"    {line}    return 5")})
    assert found.everything == ""
    assert found.reaches(reach(facts=LEARNT)) == is_reached
    assert not found.reaches(BUILDS)


def test_a_fact_that_the_import_learnt_reaches_everything(change):
    imports = reach({"pkg/pool.py": ("",)}, facts=LEARNT)
    text = POOL.replace("return 0", "return 5")
    found = change({"pkg/pool.py": text}, imports=imports)
    assert found.everything == "pkg/pool.py: a fact that is read from its text has changed"
    kept = {next(iter(LEARNT)): {"pkg/pool.py": "()"}}
    found = change({"pkg/pool.py": text}, imports=reach({"pkg/pool.py": ("",)}, facts=kept))
    assert found.everything == ""


def test_a_fact_that_cannot_be_learnt_again_has_changed(change):
    found = change({"pkg/pool.py": POOL.replace("return 0", "return 5")})
    assert found.reaches(reach(facts={"traces.no_module:fact": {"pkg/pool.py": "()"}}))


def test_run_that_is_unsure_is_reached_by_any_change(change):
    found = change({"pkg/never.py": "VALUE = 2\n"})
    assert found.reaches(reach(unsure=("another process (os.fork)",)))


def test_another_release_reaches_everything(change):
    found = change({}, release="1.1")
    assert found.everything == "another release (1.0 -> 1.1)"


def test_unsure_import_reaches_everything(change):
    imports = reach(unsure=("another process (python)",))
    found = change({}, imports=imports)
    assert found.everything == "the import starts another process (python)"


def test_compiled_modules_are_no_part_of_a_tree(tree):
    before = read_tree(tree, folder="pkg", release="1.0").digest
    cache = tree / "pkg" / "__pycache__"
    cache.mkdir()
    (cache / "pool.cpython-311.pyc").write_bytes(b"x")
    assert read_tree(tree, folder="pkg", release="1.0").digest == before
    (tree / "pkg" / "data.json").write_text("{}")
    assert read_tree(tree, folder="pkg", release="1.0").digest != before


BOTH = POOL.replace("n + 1", "n + 2").replace("return 0", "return 5")


def test_changed_function_that_is_not_reached_is_named_beside_one_that_is(unexecuted):
    assert unexecuted({"pkg/pool.py": BOTH}, BUILDS) == ("pkg/pool.py:unused",)
    assert unexecuted({}, reach({"pkg/pool.py": ("build", "unused")})) == ()
    assert unexecuted({}, IMPORTS) == ("pkg/pool.py:build", "pkg/pool.py:unused")


def test_function_that_is_not_reached_is_named_whatever_else_changed(unexecuted):
    text = f"LIMIT = 3\n{BOTH}\n\ndef added():\n    return LIMIT\n"
    found = unexecuted(
        {"pkg/pool.py": text, "pkg/new.py": POOL, "pkg/lazy.py": "VALUE = 2\n"}, BUILDS
    )
    assert found == ("pkg/pool.py:unused",)


def test_function_of_a_module_that_nothing_imports_is_named(unexecuted, tree):
    assert unexecuted({"pkg/setup.py": "def prepare():\n    return 2\n"}, BUILDS) == (
        "pkg/setup.py:prepare",
    )
    assert unexecuted({}, IMPORTS) == ()


def test_file_whose_text_was_read_names_no_function(unexecuted):
    assert unexecuted({"pkg/pool.py": BOTH}, reach(opened=("pkg/pool.py",))) == ()
    assert unexecuted({}, reach(facts=LEARNT)) == ()
    kept = {next(iter(LEARNT)): {"pkg/pool.py": "()"}}
    assert unexecuted({}, reach(facts=kept)) == ("pkg/pool.py:build", "pkg/pool.py:unused")


def test_unsure_reach_names_no_function(unexecuted):
    assert unexecuted({"pkg/pool.py": BOTH}, reach(unsure=("another process (os.fork)",))) == ()
