"""Files change together or not at all."""

import os
from pathlib import Path

import pytest

from traces.schema.transaction import Transaction


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def write(files: dict[Path, bytes], *, before_commit=lambda: None) -> None:
    with Transaction() as transaction:
        for path, content in files.items():
            transaction.write(path, content)
        before_commit()
        transaction.commit()


def interrupt():
    raise KeyboardInterrupt


def test_commit_writes_creates_and_removes(tmp_path):
    (tmp_path / "a").write_bytes(b"old a")
    (tmp_path / "c").write_bytes(b"old c")
    with Transaction() as transaction:
        transaction.write(tmp_path / "a", b"new a")
        transaction.write(tmp_path / "b", b"new b")
        transaction.remove(tmp_path / "c")
        transaction.commit()
    assert listing(tmp_path) == {"a": b"new a", "b": b"new b"}


def test_without_commit_nothing_changes(tmp_path):
    (tmp_path / "a").write_bytes(b"old a")
    with Transaction() as transaction:
        transaction.write(tmp_path / "a", b"new a")
        transaction.remove(tmp_path / "a")
    assert listing(tmp_path) == {"a": b"old a"}


def test_interrupt_between_writing_and_replacing_leaves_everything(tmp_path):
    (tmp_path / "a").write_bytes(b"old a")
    with pytest.raises(KeyboardInterrupt):
        write({tmp_path / "a": b"new a"}, before_commit=interrupt)
    assert listing(tmp_path) == {"a": b"old a"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_failure_between_two_replaces_puts_the_first_back(tmp_path, monkeypatch, error):
    (tmp_path / "a").write_bytes(b"old a")
    (tmp_path / "z").write_bytes(b"old z")
    replace = Path.replace

    def replace_until_z(self, target):
        if target.name == "z":
            raise error
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_until_z)
    files = {tmp_path / "a": b"new a", tmp_path / "new": b"new", tmp_path / "z": b"new z"}
    with pytest.raises((KeyboardInterrupt, OSError)):
        write(files)
    assert listing(tmp_path) == {"a": b"old a", "z": b"old z"}


def test_failing_second_write_leaves_no_temporary_file(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old a")
    calls = []

    def fail_second(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail_second)
    with pytest.raises(OSError, match="disk full"):
        write({tmp_path / "a": b"new a", tmp_path / "b": b"new b"})
    assert listing(tmp_path) == {"a": b"old a"}


def test_permissions_are_kept(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with Transaction() as transaction:
        transaction.write(path, b"new")
        transaction.commit()
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_bytes() == b"new"
