"""The file backend of a release: the files that it really makes are told as pages."""

import os
from types import SimpleNamespace

import pytest

from traces.targets.sglang.storage import file_observer
from traces.targets.sglang.storage.file_observer import FileObserver


@pytest.fixture
def told(monkeypatch):
    found = []
    monkeypatch.setattr(
        file_observer, "report_storage_use", lambda **used: found.append(tuple(used.values()))
    )
    return found


def backend(folder):
    def path(key):
        return folder / "rank_3" / f"{key}_m.bin"

    def keep(key, value):
        path(key).parent.mkdir(exist_ok=True)
        path(key).write_bytes(value)
        return True

    return SimpleNamespace(
        set=keep, get=lambda key: path(key).read_bytes(), exists=lambda key: path(key).exists()
    )


def test_key_of_a_page_is_the_path_of_its_file(tmp_path, told):
    files = backend(tmp_path)
    observer = FileObserver("file", tmp_path)
    with observer.observing(files):
        assert not files.exists("a")
        assert files.set("a", b"\0\1\2\3")
        assert files.exists("a")
        assert files.get("a") == b"\0\1\2\3"
    name, digest = "rank_3/a_m.bin", "054edec1d0211f62"
    assert told == [
        ("query", "", "a", 0, "file", ""),
        ("store", "", name, 4, "file", digest),
        ("query", "", name, 4, "file", digest),
        ("fetch", "", name, 4, "file", digest),
    ]
    assert observer.has_pages()


def test_file_of_a_page_is_away_while_the_page_is_missing(tmp_path, told):
    files = backend(tmp_path)
    observer = FileObserver("file", tmp_path)
    with observer.observing(files):
        files.set("a", b"page")
        assert observer.keys == ("rank_3/a_m.bin",)
        assert observer.page_bytes() == 4
        with observer.missing_page("rank_3/a_m.bin"):
            assert not files.exists("a")
        assert files.get("a") == b"page"


def test_backend_is_not_observed_after_the_block(tmp_path, told):
    files = backend(tmp_path)
    with FileObserver("file", tmp_path).observing(files):
        pass
    assert files.set("a", b"page")
    assert told == []


@pytest.mark.parametrize("has_place", [True, False])
def test_place_in_a_file_of_many_pages_is_the_key(tmp_path, told, has_place):
    observer = FileObserver("hf3fs", tmp_path)
    with observer.observing_descriptors():
        file = os.open(tmp_path / "pages.3.bin", os.O_RDWR | os.O_CREAT)
        assert not observer.has_pages()
        if has_place:
            assert os.pwrite(file, b"\0\1\2\3", 8) == 4
            assert os.pread(file, 4, 8) == b"\0\1\2\3"
        else:
            os.lseek(file, 8, os.SEEK_SET)
            assert os.write(file, b"\0\1\2\3") == 4
            os.lseek(file, 8, os.SEEK_SET)
            assert os.read(file, 4) == b"\0\1\2\3"
        os.close(file)
    key, digest = "pages.3.bin from byte 8", "054edec1d0211f62"
    assert told == [
        ("write", "", key, 4, "hf3fs", digest),
        ("read", "", key, 4, "hf3fs", digest),
    ]
    assert observer.has_pages()


def test_what_is_written_elsewhere_is_no_page(tmp_path, told):
    inside = tmp_path / "pages"
    inside.mkdir()
    observer = FileObserver("hf3fs", inside)
    reader, writer = os.pipe()
    with observer.observing_descriptors(), (tmp_path / "log").open("wb") as log:
        os.write(log.fileno(), b"line")
        os.write(writer, b"line")
        assert os.read(reader, 4) == b"line"
    os.close(reader)
    os.close(writer)
    assert told == []
    assert not observer.has_pages()
