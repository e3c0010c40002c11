"""Models of the kernels by which HiSparse brings rows to the device when attention asks for them.

A release compiles them for a GPU. A model finds the tokens that the buffer of a request lacks,
gives up the slots that were used longest ago, and copies each missing row on the stream of the
call, by the kernel that releases move the rows of one layer with.

Source of the behaviour: sglang 0.5.23 ``kernels/jit/csrc/kvcacheio/hisparse.cuh``.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch

from traces.targets.sglang.script_device import ScriptDevice

_TRANSFERS = "sgl_kernel.kvcacheio"
_COPY = "transfer_kv_per_layer_mla"


class SwapKernels:
    """Stands for the kernels of one coordinator's module; ``device`` runs the copies."""

    def __init__(self, device: ScriptDevice) -> None:
        self._device = device

    @contextmanager
    def bound(self, module: ModuleType) -> Iterator[None]:
        """Have a module call the models in the block, by whichever names it has for kernels."""
        models = {
            "load_cache_to_device_buffer_mla": self.load,
            "load_blocks_to_device_buffer_mha": self.load,
            "copy_cache_planned_mla": self.copy_planned,
        }
        with ExitStack() as replaced:
            for name, model in models.items():
                if hasattr(module, name):
                    replaced.enter_context(patch.object(module, name, model))
            yield

    def load(self, **given: Any) -> None:  # noqa: ANN401 - tensors and numbers
        """Fill ``top_k_device_locs`` with the slots of the tokens that are asked for.

        A plan of the copies is written to ``miss_src``, ``miss_dst`` and ``miss_count`` where they
        are given.
        """
        for number in range(self._real_num(given)):
            with self._device.pause_interception():
                source, target = _swap(given, number)
                if given.get("miss_src") is not None:
                    given["miss_src"][number, : len(source)] = source
                    given["miss_dst"][number, : len(target)] = target
                    given["miss_count"][number] = len(source)
            self._copy(given, source, target)

    def copy_planned(self, **given: Any) -> None:  # noqa: ANN401 - tensors and numbers
        """Copy the rows of another layer by the plan of :meth:`load`."""
        for number in range(self._real_num(given)):
            with self._device.pause_interception():
                length = int(given["miss_count"][number])
                source = given["miss_src"][number, :length].clone()
                target = given["miss_dst"][number, :length].long()
            self._copy(given, source, target)

    def _real_num(self, given: Mapping[str, Any]) -> int:
        with self._device.pause_interception():
            return int(given["num_real_reqs"])

    def _copy(self, given: Mapping[str, Any], source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy rows of every plane, ``(n,) int64`` slots of host and device."""
        copy = getattr(importlib.import_module(_TRANSFERS), _COPY)
        planes = [name for name in given if name.startswith("host_cache") and "locs" not in name]
        for name in planes:
            copy(
                src=given[name],
                dst=given[name.replace("host_cache", "device_buffer")],
                src_indices=source,
                dst_indices=target,
                item_size=given["item_size_bytes"],
            )


def _swap(given: Mapping[str, Any], number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Give each token that a request asks for a slot; return the slots of host and device to copy.

    Tokens of a request that fits into its buffer lie there in order; the latest one has a slot of
    its own behind the buffer.
    """
    row, length = int(given["req_pool_indices"][number]), int(given["seq_lens"][number])
    buffer_size: int = given["hot_buffer_size"]
    tokens = _tokens(given, number, length)
    held, lru = given["device_buffer_tokens"][row], given["lru_slots"][row]
    place = {token: slot for slot, token in enumerate(held[:buffer_size].tolist())}
    if length <= buffer_size:
        place = {token: token for token in range(length)}
    place[length - 1] = min(length - 1, buffer_size)
    missing = [token for token in tokens if token >= 0 and token not in place]
    used = [place[token] for token in tokens if token in place]
    free = [slot for slot in lru.tolist() if slot not in used]
    place |= dict(zip(missing, free, strict=False))
    for token in missing:
        held[place[token]] = token
    if length > buffer_size:
        latest = [slot for slot in used if slot < buffer_size]
        order = [*free[len(missing) :], *latest, *free[: len(missing)]]
        lru.copy_(torch.tensor(order, dtype=lru.dtype))
    slots = given["device_buffer_locs"][row]
    found = [int(slots[place[token]]) if token >= 0 else -1 for token in tokens]
    given["top_k_device_locs"][number, : len(found)] = torch.tensor(found, dtype=torch.int32)
    source = given["host_cache_locs"][row, torch.tensor(missing, dtype=torch.int64)]
    target = slots[torch.tensor([place[token] for token in missing], dtype=torch.int64)]
    return source.long(), target.long()


def _tokens(given: Mapping[str, Any], number: int, length: int) -> list[int]:
    """Return the tokens that a request asks for, -1 for none; some kernels are asked for blocks."""
    if "top_k_tokens" in given:
        return given["top_k_tokens"][number].tolist()  # type: ignore[no-any-return]
    size: int = given["sparse_block_size"]
    firsts = (int(block) * size for block in given["top_k_blocks"][number])
    tokens = [first + place if first >= 0 else -1 for first in firsts for place in range(size)]
    return [token if token < length else -1 for token in tokens]
