"""The shims under a real release."""

import os
import subprocess
import sys
from pathlib import Path

from tests.releases import NEEDS_RELEASES
from tools.sides.environments.cache import environment_for

RELEASE = "0.5.12"
ROOT = Path(__file__).parents[5]
pytestmark = NEEDS_RELEASES

PLAY = """
import torch
from traces.simulator import SimDevice, default_schedule
from traces.targets.sglang import shims

device = SimDevice(schedule=default_schedule(), capacity_bytes=None, raise_races=False)
installed = shims.install(device)
from sglang.srt.managers import cache_controller
from sglang.srt.mem_cache import memory_pool, memory_pool_host

bound = installed.bind()
assert any(name.endswith(".ALLOC_MEMORY_FUNCS") for name in bound), bound
assert cache_controller.device_module.Stream is installed.device_module.Stream
pool = memory_pool.MHATokenToKVPool(
    size=64, page_size=16, dtype=torch.bfloat16, head_num=2, head_dim=64, layer_num=2,
    device="cpu", enable_memory_saver=False,
)
installed.watch(pool.k_buffer[0], "device.KV k layer 0")
pool.k_buffer[0].fill_(3)
counter = cache_controller.LayerDoneCounter(2)
counter.events[0].load_events[0].record()
assert torch.equal(pool.k_buffer[0][1], torch.full((2, 64), 3, dtype=torch.bfloat16))
device.synchronize()
assert not device.races, device.races
from torch.utils._triton import has_triton
assert not has_triton()
"""


def test_release_runs_on_the_shims() -> None:
    release = environment_for(RELEASE)
    path = os.pathsep.join(map(str, (release.root, *release.layers, ROOT)))
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", PLAY],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
