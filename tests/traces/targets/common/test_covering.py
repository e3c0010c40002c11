"""Covering arrays: every pair is there, and an array that was computed before is read."""

import covertable
import pytest

from traces.targets.common import covering
from traces.targets.common.covering import covering_rows, keep_rows_in

AXES = {"layout": ["page_first", "layer_first"], "page_size": [1, 64], "draft": [None, "packed"]}


def rows():
    return covering_rows(AXES, constraints=[], presets=[])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(covering, "_folder", None)
    keep_rows_in(tmp_path / "rows")
    return tmp_path / "rows"


def never(*_arguments, **_named):
    raise AssertionError


def test_every_pair_of_values_is_in_a_row():
    found = {(row["layout"], row["draft"]) for row in rows()}
    assert found == {
        ("page_first", None),
        ("page_first", "packed"),
        ("layer_first", None),
        ("layer_first", "packed"),
    }


def test_array_that_was_computed_before_is_read(folder, monkeypatch):
    first = rows()
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(covertable, "make", never)
    assert rows() == first


def test_other_axes_are_computed(folder, monkeypatch):
    rows()
    monkeypatch.setattr(covertable, "make", never)
    with pytest.raises(AssertionError):
        covering_rows({**AXES, "page_size": [1, 16]}, constraints=[], presets=[])


@pytest.mark.parametrize("damage", ["", "[]", "0\n[]"])
def test_damaged_file_is_computed_again(folder, damage):
    first = rows()
    [file] = folder.iterdir()
    file.write_text(damage)
    assert rows() == first
    assert file.read_text() != damage


def test_nothing_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(covering, "_folder", None)
    monkeypatch.chdir(tmp_path)
    rows()
    assert list(tmp_path.iterdir()) == []
