"""A Mooncake master on loopback, where the extra is installed."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assembler.storage.mooncake import MooncakeOptions

MIB = 1 << 20


def free_ports(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def is_open(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def mooncake_options(tmp_path_factory):
    """Start a master and return how to reach it; skip with the reason where it cannot run."""
    try:
        import mooncake.store  # noqa: F401
    except ImportError as error:
        pytest.skip(f"Mooncake was not run: {error}")
    # Beside the interpreter first: a virtual environment need not be activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = shutil.which("mooncake_master", path=path)
    if command is None:
        pytest.skip("Mooncake was not run: there is no command mooncake_master")
    port, metrics = free_ports(2)
    log = tmp_path_factory.mktemp("mooncake") / "master.log"
    with log.open("w") as output:
        master = subprocess.Popen(
            [command, f"--rpc_port={port}", "--rpc_address=127.0.0.1", f"--metrics_port={metrics}"],
            stdout=output,
            stderr=output,
        )
        try:
            for _ in range(600):
                if is_open(port):
                    break
                assert master.poll() is None, log.read_text()
                time.sleep(0.1)
            yield MooncakeOptions(
                master_server_address=f"127.0.0.1:{port}",
                global_segment_size=64 * MIB,
                local_buffer_size=16 * MIB,
            )
        finally:
            master.kill()
            master.wait()
