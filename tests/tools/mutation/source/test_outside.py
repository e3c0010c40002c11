"""Names of the files that a refactor does not look into."""

from tools.mutation.neutral.refactor_stack import parse_cached
from tools.mutation.neutral.rewrites import REWRITES
from tools.mutation.source.outside import OutsideNames, names_by_file, names_outside
from tools.mutation.source.signatures import SourceTree

TEXT = "def _helper():\n    return 1\n\n\ndef build():\n    return _helper()\n"
CALL = (
    "class Pool:\n    def __init__(self, size=3):\n        pass\n\n\n"
    "def build():\n    return Pool()\n"
)


def test_definitions_and_private_names_of_other_files_are_found(tmp_path):
    folder = tmp_path / "pkg"
    folder.mkdir()
    (folder / "a.py").write_text("class A:\n    async def run(self):\n        _x = 1\n")
    (folder / "b.py").write_text("def b(): ...\n")
    found = names_outside(names_by_file(tmp_path, ["pkg"]), ["pkg/b.py"])
    assert found == OutsideNames(defined=frozenset({"A", "run"}), private=frozenset({"_x"}))


def test_private_function_that_another_file_names_keeps_its_name():
    unit = parse_cached("a.py", TEXT)
    rename = REWRITES["rename_private_function"]
    assert list(rename(SourceTree([unit]), unit))
    other = OutsideNames(private=frozenset({"_helper"}))
    assert not list(rename(SourceTree([unit], other), unit))


def test_default_of_a_class_that_another_file_defines_as_well_is_not_written():
    unit = parse_cached("a.py", CALL)
    explicit = REWRITES["explicit_default"]
    assert list(explicit(SourceTree([unit]), unit))
    other = OutsideNames(defined=frozenset({"Pool"}))
    assert not list(explicit(SourceTree([unit], other), unit))
