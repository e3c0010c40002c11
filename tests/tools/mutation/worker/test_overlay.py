"""Mutated code takes the place of imported functions, whoever holds them."""

import importlib
import sys
from importlib.machinery import PathFinder

import pytest

from tools.mutation.worker.overlay import copy_tree, link_tree, reimport_from, swap_code

SOURCE = """\
from contextlib import contextmanager

LIMIT = 3


def double(number, *, by=2):
    return number * by


@contextmanager
def opened():
    yield "old"


class Pool:
    def size(self):
        return 1

    @property
    def rows(self):
        return 1
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "pkg_mutated"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "pool.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield importlib.import_module("pkg_mutated.pool")
    for name in [name for name in sys.modules if name.startswith("pkg_mutated")]:
        del sys.modules[name]


FILE = "pkg_mutated/pool.py"


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        ("number * by", "number + by", lambda held: held[0](5) == 7),
        ('"old"', '"new"', lambda held: held[1]().__enter__() == "new"),
        (
            "size(self):\n        return 1",
            "size(self):\n        return 2",
            lambda h: h[2].size() == 2,
        ),
        (
            "rows(self):\n        return 1",
            "rows(self):\n        return 2",
            lambda h: h[2].rows == 2,
        ),
    ],
)
def test_swapped_function_is_seen_by_those_who_hold_it(package, tmp_path, old, new, seen):
    held = (package.double, package.opened, package.Pool())
    assert not seen(held)
    assert swap_code(tmp_path, {FILE: SOURCE.replace(old, new)})
    assert seen(held)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("class Pool:", "class Pool(Exception):"),
        ("*, by=2", "*, by=3"),
    ],
)
def test_what_is_more_than_a_function_is_refused_and_nothing_changed(package, tmp_path, old, new):
    text = SOURCE.replace(old, new).replace("number * by", "number + by")
    assert not swap_code(tmp_path, {FILE: text})
    assert package.double(3) == 6


@pytest.mark.parametrize(("text", "limit"), [(SOURCE, 3), ("LIMIT = 9\n", 9)])
def test_module_that_is_imported_later_has_the_other_text(
    package, tmp_path, monkeypatch, text, limit
):
    (tmp_path / "pkg_mutated" / "late.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    assert swap_code(tmp_path, {"pkg_mutated/late.py": text})
    late = importlib.import_module("pkg_mutated.late")
    assert vars(late)["LIMIT"] == limit
    assert late.__file__ == str(tmp_path / "pkg_mutated" / "late.py")
    assert package.LIMIT == 3


def test_package_that_is_imported_later_has_the_other_text_and_its_modules(
    package, tmp_path, monkeypatch
):
    folder = tmp_path / "pkg_mutated" / "backends"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "pool.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    text = "from pkg_mutated.backends.pool import LIMIT\n"
    assert swap_code(tmp_path, {"pkg_mutated/backends/__init__.py": text})
    assert importlib.import_module("pkg_mutated.backends").LIMIT == 3


def test_tree_of_links_has_other_texts_and_leaves_the_package_alone(tmp_path):
    files = {
        "pkg/__init__.py": "",
        "pkg/inner/__init__.py": "",
        "pkg/inner/pool.py": "LIMIT = 3\n",
        "pkg/inner/other.py": "X = 1\n",
        "pkg/elsewhere/far.py": "Y = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    to = tmp_path / "to"
    texts = {"pkg/inner/pool.py": "LIMIT = 9\n", "pkg/inner/moved.py": "Z = 1\n"}
    link_tree(tmp_path, texts, package="pkg", to=to)
    assert {name: (to / name).read_text() for name in (*files, *texts)} == {**files, **texts}
    assert (to / "pkg/elsewhere").is_symlink()
    assert not (to / "pkg/inner").is_symlink()
    other = "pkg/inner/other.py"
    assert (to / other).stat().st_mtime_ns == (tmp_path / other).stat().st_mtime_ns
    assert (tmp_path / "pkg/inner/pool.py").read_text() == "LIMIT = 3\n"
    assert not (tmp_path / "pkg/inner/moved.py").exists()


class Obstinate:
    """Finds the package where it always lay, as a worker of another interpreter does."""

    def __init__(self, root):
        self._root = root

    def find_spec(self, fullname, path, target=None):
        if path is not None or fullname != "pkg_mutated":
            return None
        return PathFinder.find_spec(fullname, [str(self._root)], target)


@pytest.mark.parametrize("is_obstinate", [False, True])
def test_copy_of_a_package_is_imported_anew(package, tmp_path, monkeypatch, is_obstinate):
    finders = [Obstinate(tmp_path)] if is_obstinate else []
    monkeypatch.setattr(sys, "meta_path", [*finders, *sys.meta_path])
    texts = {FILE: "from pkg_mutated.moved import LIMIT\n", "pkg_mutated/moved.py": "LIMIT = 9\n"}
    copy = tmp_path / "copy"
    copy.mkdir()
    copy_tree(tmp_path, texts, package="pkg_mutated", to=copy)
    reimport_from(copy, packages=("pkg_mutated",))
    assert importlib.import_module("pkg_mutated.pool").LIMIT == 9
    assert package.LIMIT == 3
