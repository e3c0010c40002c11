"""The Mooncake Store: several clients, clients that die, and what is said where it cannot run."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from assembler.errors import StorageError
from assembler.storage import open_storage
from assembler.storage.mooncake import MooncakeBlobs
from tests.assembler.storage.conftest import free_ports
from tests.assembler.storage.stores import (
    NOTHING,
    config_of,
    content,
    equal,
    fill,
    hashes_of,
    host_pool,
    opened,
    slots_of,
)

ROOT = Path(__file__).resolve().parents[3]
CLIENTS, PAGES = 4, 6

# Each client stores the same pages again and again under names of its own.
CLIENT = """
import sys
from assembler.storage.mooncake import MooncakeBlobs, MooncakeOptions
from tests.assembler.storage.stores import NOTHING, fill, hashes_of, host_pool, opened, slots_of
master, client, pages = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = MooncakeOptions(
    master_server_address=master, global_segment_size=64 << 20, local_buffer_size=16 << 20
)
pool = host_pool()
fill(pool, client)
storage = opened(MooncakeBlobs(options), pool, tp_rank=client)
print("ready", flush=True)
sys.stdin.readline()
stored = storage.batch_set_v1(hashes_of(pages), slots_of(*range(pages)), NOTHING)
print(all(stored), flush=True)
if client == 1:
    while True:
        for key in hashes_of(pages):
            storage.blobs.remove(storage.page_name("kv", key))
        storage.batch_set_v1(hashes_of(pages), slots_of(*range(pages)), NOTHING)
sys.stdin.readline()
"""


def test_a_client_that_is_killed_in_the_middle_of_puts_leaves_no_wrong_byte(mooncake_options):
    address = mooncake_options.master_server_address
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, address, str(number), str(PAGES)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(CLIENTS)
    ]
    try:
        assert [client.stdout.readline() for client in clients] == ["ready\n"] * CLIENTS
        for client in clients:
            client.stdin.write("\n")
            client.stdin.flush()
        assert [client.stdout.readline() for client in clients] == ["True\n"] * CLIENTS
        clients[1].send_signal(signal.SIGKILL)
        clients[1].wait()

        for number in range(CLIENTS):
            check_pages(mooncake_options, number)
    finally:
        for client in clients:
            client.kill()
            client.wait()
            client.stdin.close()
            client.stdout.close()


def check_pages(options, number):
    """Fetch the pages of a client: each has its bytes or is missing."""
    source, target = host_pool(), host_pool()
    fill(source, number)
    fill(target, 99)
    before = [content(target, page * 4) for page in range(PAGES)]
    storage = opened(MooncakeBlobs(options), target, tp_rank=number)
    arrived = storage.batch_get_v1(hashes_of(PAGES), slots_of(*range(PAGES)), NOTHING)
    for page, is_there in enumerate(arrived):
        expected = content(source, page * 4) if is_there else before[page]
        assert equal(content(target, page * 4), expected)
    storage.close()


def test_bytes_that_the_store_does_not_take_are_an_error(mooncake_options):
    blobs = MooncakeBlobs(mooncake_options)
    too_many = memoryview(bytes(mooncake_options.global_segment_size + 1))

    with pytest.raises(StorageError, match=r"big: must be stored; expected code 0, got code -\d+"):
        blobs.put("big", [too_many])
    assert not blobs.exists("big")
    blobs.close()


def test_a_master_that_is_not_there_is_named(mooncake_options):
    (port,) = free_ports(1)
    nobody = replace(mooncake_options, master_server_address=f"127.0.0.1:{port}")
    with pytest.raises(StorageError, match=rf"expected a master at 127.0.0.1:{port}, got code -1"):
        MooncakeBlobs(nobody)


def test_an_option_of_another_type_is_refused():
    with pytest.raises(StorageError, match=r"protocol: .* must have its type; expected str, got 3"):
        open_storage("mooncake", config_of(extra_config={"protocol": 3}))


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mooncake.store", None)
    with pytest.raises(StorageError, match=r"mooncake: must be installed; .*goldentrace\[mooncake"):
        open_storage("mooncake", config_of())
