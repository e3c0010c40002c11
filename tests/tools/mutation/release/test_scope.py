"""The mutated part of a release is found by imports and classes, whatever files are called."""

import pytest

from tools.errors import ToolError
from tools.mutation.release.scope import release_scope

FILES = {
    "mem_cache/pools.py": (
        "from sglang.srt.managers.mover import Mover\n"
        "class Base:\n"
        "    def __init__(self, size, dtype=None, *, pin=True): ...\n"
        "    def infos(self):\n"
        "        return self.rows.data_ptr(), 3\n"
        "class Derived(Base):\n"
        "    pass\n"
        "class Table:\n"
        "    rows: int\n"
        "    width: int = 3\n"
    ),
    "mem_cache/test_pools.py": "def test(): ...\n",
    "managers/mover.py": "from sglang.srt.mem_cache.pools import Derived\nclass Mover: ...\n",
    "managers/other.py": "from sglang.srt.mem_cache.pools import Derived\nx = 1\n",
    "runner/start.py": (
        "from sglang.srt.mem_cache.pools import Derived, Table\n"
        "def construct():\n    return Derived(3)\n"
        "def table():\n    return Table(3)\n"
        "def export(pool):\n    return pool.infos()\n"
    ),
    "runner/elsewhere.py": "def construct():\n    return Derived(3)\n",
}


def release(root, files=FILES):
    for name, text in files.items():
        path = root / "sglang" / "srt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return release_scope(root)


def test_cache_package_its_controllers_and_users_of_pools_are_in_scope(tmp_path):
    scope = release(tmp_path)
    assert scope.files == (
        "sglang/srt/managers/mover.py",
        "sglang/srt/mem_cache/pools.py",
        "sglang/srt/runner/start.py",
    )
    assert scope.functions == {"sglang/srt/runner/start.py": frozenset({"construct", "export"})}


def test_keywords_that_a_constructor_may_leave_out_are_known_by_class(tmp_path):
    assert release(tmp_path).optional_parameters == {
        "Base": frozenset({"dtype", "pin"}),
        "Derived": frozenset({"dtype", "pin"}),
        "Table": frozenset({"width"}),
    }


def test_module_that_cannot_be_parsed_is_refused_by_name(tmp_path):
    with pytest.raises(ToolError, match=r"sglang/srt/mem_cache/bad\.py: must be readable"):
        release(tmp_path, {**FILES, "mem_cache/bad.py": "def ("})
