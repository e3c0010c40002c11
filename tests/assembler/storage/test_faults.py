"""Faults of the storage tier: every one ends in a missing page and a warning."""

import errno
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest

from assembler.errors import StorageTimeoutError
from assembler.storage.files import FileBlobs
from tests.assembler.storage.stores import (
    NOTHING,
    FailingBlobs,
    content,
    equal,
    fill,
    hashes_of,
    host_pool,
    opened,
    slots_of,
)


def stored_page(tmp_path):
    """Store one page and return its file, with a storage and the bytes of slots 4 to 7."""
    pool = host_pool()
    fill(pool, 1)
    storage = opened(FileBlobs(tmp_path), pool)
    storage.batch_set_v1(hashes_of(1), slots_of(0), NOTHING)
    (file,) = tmp_path.rglob("*.page")
    return file, storage, pool


def expect_miss(storage, pool, caplog, *, reason):
    before = content(pool, 4)
    caplog.clear()

    assert storage.batch_get_v1(hashes_of(1), slots_of(1), NOTHING) == [False]

    assert equal(content(pool, 4), before)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert reason in caplog.text


@pytest.mark.parametrize("length", [0, 7, 40, 200, -1])
def test_a_torn_page_is_missing(tmp_path, caplog, length):
    file, storage, pool = stored_page(tmp_path)
    assert storage.batch_get_v1(hashes_of(1), slots_of(1), NOTHING) == [True]
    file.write_bytes(file.read_bytes()[:length])

    expect_miss(storage, pool, caplog, reason="refused")
    assert not file.exists()


def test_a_page_with_bytes_behind_it_is_missing(tmp_path, caplog):
    file, storage, pool = stored_page(tmp_path)
    file.write_bytes(file.read_bytes() + b"x")
    expect_miss(storage, pool, caplog, reason="it is torn")


@pytest.mark.parametrize("place", [10, 50, 300, -1])
def test_a_page_with_one_wrong_bit_is_missing(tmp_path, caplog, place):
    file, storage, pool = stored_page(tmp_path)
    damaged = bytearray(file.read_bytes())
    damaged[place] ^= 1
    file.write_bytes(damaged)

    expect_miss(storage, pool, caplog, reason="refused")


def test_a_page_of_another_name_is_missing(tmp_path, caplog):
    file, storage, pool = stored_page(tmp_path)
    storage.batch_set_v1(hashes_of(2)[1:], slots_of(2), NOTHING)
    (other,) = set(tmp_path.rglob("*.page")) - {file}
    file.write_bytes(other.read_bytes())

    expect_miss(storage, pool, caplog, reason="it is the page lab-model-")


def test_a_refused_page_can_be_stored_again(tmp_path):
    file, storage, pool = stored_page(tmp_path)
    file.write_bytes(b"")
    assert storage.batch_get_v1(hashes_of(1), slots_of(1), NOTHING) == [False]

    assert storage.batch_set_v1(hashes_of(1), slots_of(0), NOTHING) == [True]
    assert storage.batch_get_v1(hashes_of(1), slots_of(1), NOTHING) == [True]
    assert equal(content(pool, 4), content(pool, 0))


@pytest.mark.parametrize("operation", ["get", "put", "exists"])
@pytest.mark.parametrize(
    "error",
    [None, StorageTimeoutError("store", "must answer in time", expected="1 s", got="2 s")],
    ids=["error", "time-out"],
)
def test_a_store_that_fails_has_no_pages(caplog, operation, error):
    pool, blobs = host_pool(), FailingBlobs()
    fill(pool, 1)
    storage, hashes = opened(blobs, pool), hashes_of(1)
    if operation != "put":
        storage.batch_set_v1(hashes, slots_of(0), NOTHING)
    blobs.fail(operation, error)

    answer = {
        "get": lambda: storage.batch_get_v1(hashes, slots_of(1), NOTHING),
        "put": lambda: storage.batch_set_v1(hashes, slots_of(1), NOTHING),
        "exists": lambda: [storage.exists(hashes[0])],
    }[operation]()

    assert answer == [False]
    assert "store: must answer" in caplog.text
    assert storage.get_stats().failed == 1


def test_a_full_disk_leaves_no_file_and_no_wrong_page(tmp_path, caplog, monkeypatch):
    pool = host_pool()
    fill(pool, 1)
    storage = opened(FileBlobs(tmp_path), pool)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert storage.batch_set_v1(hashes_of(1), slots_of(0), NOTHING) == [False]
    assert "No space left on device" in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    monkeypatch.undo()
    assert storage.batch_set_v1(hashes_of(1), slots_of(0), NOTHING) == [True]


WRITES = {"mkdir", "open", "write", "flush", "fsync", "close", "replace", "unlink", "__exit__"}


def _store_two_pages(folder, die_at):
    """Store two pages; be killed before the n-th call that changes files, return all such calls."""
    pool = host_pool()
    fill(pool, 1)
    storage = opened(FileBlobs(Path(folder)), pool)
    calls = []

    def count(frame, event, function):
        if event == "c_call" and function.__name__ in WRITES:
            calls.append(function.__name__)
            if len(calls) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    try:
        storage.batch_set_v1(hashes_of(2), slots_of(0, 1), NOTHING)
    finally:
        sys.setprofile(None)
    return calls


def test_a_process_killed_between_two_writes_leaves_whole_pages_or_none(tmp_path):
    calls = _store_two_pages(tmp_path / "whole", die_at=0)
    assert calls.count("replace") == 2
    assert calls.count("write") > 4
    assert calls.count("fsync") == 4
    numbers = {_arrived_after_death(tmp_path / str(at), at + 1) for at in range(len(calls))}

    # Control: some deaths come early and some late.
    assert numbers == {(False, False), (True, False), (True, True)}


def _arrived_after_death(folder, die_at):
    """Return which of two pages are there after a death; each is whole and can be stored again."""
    # Forked: a fresh interpreter would import torch for each place of death.
    process = multiprocessing.get_context("fork").Process(
        target=_store_two_pages, args=(folder, die_at)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL

    pool = host_pool()
    fill(pool, 2)
    source = host_pool()
    fill(source, 1)
    storage = opened(FileBlobs(folder), pool)
    before = [content(pool, slot) for slot in (8, 12)]
    arrived = storage.batch_get_v1(hashes_of(2), slots_of(2, 3), NOTHING)
    for page, is_there in enumerate(arrived):
        expected = content(source, 4 * page) if is_there else before[page]
        assert equal(content(pool, 8 + 4 * page), expected)
    assert storage.get_stats().refused == 0
    assert storage.batch_set_v1(hashes_of(2), slots_of(0, 1), NOTHING) == [True, True]
    return tuple(arrived)


def test_what_a_dead_process_left_is_removed_an_hour_later(tmp_path):
    (tmp_path / "unfinished").mkdir()
    old, new = (tmp_path / "unfinished" / f"host-1-{number}.part" for number in range(2))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))

    FileBlobs(tmp_path)

    assert not old.exists()
    assert new.exists()
