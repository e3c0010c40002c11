"""Modules are compiled once for all copies of their text, and again when the text changes."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tools.workers.compiled_modules import keep_compiled_modules, trim_compiled_modules

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {folder!r}]
import builtins
from tools.workers.compiled_modules import keep_compiled_modules
keep_compiled_modules(Path({store!r}), [Path({folder!r})])
compiled = []
sys.addaudithook(lambda event, given: compiled.append(given[1]) if event == "compile" else None)
import subject
print(subject.VALUE, subject.answer.__code__.co_filename == subject.__file__, len(compiled))
"""
TEXT = "VALUE = 7\ndef answer():\n    return lambda: VALUE\n"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def import_in(folder, store, *options):
    """Return what a new interpreter prints that imports the subject of a folder."""
    script = SCRIPT.format(root=str(ROOT), folder=str(folder), store=str(store))
    ran = subprocess.run(
        [sys.executable, *options, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ran.stdout.split()


def copy_of(tmp_path, name, text=TEXT):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "subject.py").write_text(text)
    return folder


def test_a_copy_of_a_module_is_not_compiled_again_and_keeps_its_own_path(tmp_path, store):
    assert import_in(copy_of(tmp_path, "one"), store) == ["7", "True", "1"]
    assert import_in(copy_of(tmp_path, "other"), store) == ["7", "True", "0"]


def test_another_text_of_the_same_length_and_time_is_compiled(tmp_path, store):
    folder = copy_of(tmp_path, "one")
    assert import_in(folder, store) == ["7", "True", "1"]
    (folder / "subject.py").write_text(TEXT.replace("7", "8"))
    assert import_in(folder, store) == ["8", "True", "1"]


def test_code_without_assertions_is_kept_apart(tmp_path, store):
    folder = copy_of(tmp_path, "one")
    assert import_in(folder, store) == ["7", "True", "1"]
    assert import_in(folder, store, "-O") == ["7", "True", "1"]
    assert import_in(folder, store, "-O") == ["7", "True", "0"]


def test_nothing_is_written_beside_the_source(tmp_path, store):
    folder = copy_of(tmp_path, "one")
    import_in(folder, store)
    assert sorted(path.name for path in folder.iterdir()) == ["subject.py"]


@pytest.mark.parametrize("content", [b"", b"damaged", b"0" * 64])
def test_a_damaged_file_of_the_store_is_taken_for_none(tmp_path, store, content):
    folder = copy_of(tmp_path, "one")
    import_in(folder, store)
    (kept,) = [path for path in store.rglob("*") if path.is_file()]
    kept.write_bytes(content)
    assert import_in(folder, store) == ["7", "True", "1"]
    assert import_in(folder, store) == ["7", "True", "0"]


def test_a_store_that_cannot_be_written_changes_nothing(tmp_path, store):
    store.write_text("a file")
    folder = copy_of(tmp_path, "one")
    assert import_in(folder, store) == import_in(folder, store) == ["7", "True", "1"]


def test_modules_of_other_folders_are_imported_as_usual(tmp_path, store, monkeypatch):
    kept, other = copy_of(tmp_path, "kept"), copy_of(tmp_path, "other")
    monkeypatch.setattr(sys, "path", [str(other), *sys.path])
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    monkeypatch.setattr(sys, "path_importer_cache", {})
    keep_compiled_modules(store, [kept])
    try:
        assert importlib.import_module("subject").VALUE == 7
    finally:
        del sys.modules["subject"]
    assert not store.exists()


def test_a_store_above_its_limit_is_emptied(tmp_path, store):
    import_in(copy_of(tmp_path, "one"), store)
    trim_compiled_modules(store, limit=10_000)
    assert store.exists()
    trim_compiled_modules(store, limit=10)
    assert not store.exists()
