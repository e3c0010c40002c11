"""Files of a cache hold what was written, or count as none."""

import pytest

from tools.kept_files import read_kept, write_kept


def test_content_comes_back_and_nothing_else_is_left(tmp_path):
    file = tmp_path / "new" / "kept"
    write_kept(file, b"content")
    write_kept(file, b"other")
    assert read_kept(file) == b"other"
    assert [path.name for path in file.parent.iterdir()] == ["kept"]


@pytest.mark.parametrize("cut", [0, 10, 38])
def test_a_file_that_is_cut_short_counts_as_none(tmp_path, cut):
    file = tmp_path / "kept"
    write_kept(file, b"content")
    file.write_bytes(file.read_bytes()[:cut])
    assert read_kept(file) is None


def test_a_changed_byte_and_a_missing_file_count_as_none(tmp_path):
    file = tmp_path / "kept"
    assert read_kept(file) is None
    write_kept(file, b"content")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert read_kept(file) is None


def test_a_file_that_cannot_be_moved_into_place_leaves_nothing_behind(tmp_path):
    taken = tmp_path / "kept"
    taken.mkdir()
    write_kept(taken, b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
