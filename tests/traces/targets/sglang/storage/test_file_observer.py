"""The file backend of a release: the files that it really makes are told as pages."""

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


def test_backend_is_not_observed_after_the_block(tmp_path, told):
    files = backend(tmp_path)
    with FileObserver("file", tmp_path).observing(files):
        pass
    assert files.set("a", b"page")
    assert told == []
