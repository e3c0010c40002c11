"""Rows of a stack's device pools: what a host pool has as its own is none of them."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch

from traces.targets.common.planes import SlotDomain
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice

SLOTS = 8


def planes(device, host):
    pool = SimpleNamespace(k_buffer=torch.zeros(SLOTS, 4), staging=torch.zeros(SLOTS, 2, 4))
    if host is not None:
        host.staging_k_buffer = pool.staging[: SLOTS - 2]
    domain = SlotDomain(name="KV", slot_num=SLOTS, page_size=1)
    stack = SimpleNamespace(
        device_pools={"KV": pool}, group=host, kvcache=pool, req_to_token_pool=None, draft_pools=()
    )
    transfers = SimpleNamespace(domain_of=lambda _: domain, host_pool_of=lambda _: host)
    rows = RowContents(
        stack,
        device=ScriptDevice(device, pause_interception=nullcontext),
        transfers=transfers,
    )
    return [plane.name for plane in rows.planes]


def test_a_buffer_that_backups_go_through_holds_no_rows(device):
    assert planes(device, SimpleNamespace()) == ["KV.k_buffer"]


def test_a_buffer_of_the_device_pool_alone_does(device):
    assert planes(device, None) == ["KV.k_buffer", "KV.staging"]
