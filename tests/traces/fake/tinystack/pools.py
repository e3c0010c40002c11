"""Pools, allocators, streams and events of the miniature stack."""

import torch


class DevicePool:
    def __init__(self, size: int, *, width: int, layers: int = 2) -> None:
        self.size = size
        self.k_buffer = [torch.zeros(size, width) for _ in range(layers)]
        self._table = torch.zeros(4)


class WideDevicePool(DevicePool):
    def __init__(self, size: int, *, scale: int) -> None:
        super().__init__(size, width=8 * scale)
        self.scale = scale


class HostPool:
    layout = "layer_first"

    def __init__(self, *, device_pool: DevicePool, width: int | None = None) -> None:
        self.device_pool = device_pool
        self.kv_buffer = torch.zeros(2, device_pool.size, width if width is not None else 4)
        self.first_layer = self.kv_buffer[0]
        self._free = list(range(device_pool.size))

    def alloc(self, need: int) -> torch.Tensor | None:
        if need > len(self._free):
            return None
        taken, self._free = self._free[:need], self._free[need:]
        return torch.tensor(taken, dtype=torch.int64)

    def free(self, indices: torch.Tensor) -> int:
        self._free.extend(indices.tolist())
        return indices.numel()


class PairPool:
    """An allocator made of allocators."""

    def __init__(self, *, left: HostPool, right: HostPool) -> None:
        self.left = left
        self.right = right

    def alloc(self, need: int) -> torch.Tensor | None:
        if need > 1000:
            return None
        self.right.alloc(need)
        return self.left.alloc(need)

    def free(self, indices: torch.Tensor) -> int:
        self.right.free(indices)
        return self.left.free(indices)


class Stream:
    def __init__(self, name: str) -> None:
        self.name = name

    def wait_event(self, event: "Event") -> None:
        pass

    def synchronize(self) -> None:
        Event(name="inner").synchronize()


class Event:
    def __init__(self, name: str) -> None:
        self.name = name

    def record(self, stream: Stream) -> None:
        pass

    def synchronize(self) -> None:
        pass


def move(
    *,
    direction: str,
    host_pool: HostPool,
    layer: int,
    host_indices: torch.Tensor,
    device_indices: torch.Tensor,
) -> int:
    rows = host_pool.kv_buffer[layer]
    if direction == "backup":
        rows[host_indices] = host_pool.device_pool.k_buffer[layer][device_indices]
    else:
        host_pool.device_pool.k_buffer[layer][device_indices] = rows[host_indices]
    return host_indices.numel() * rows.shape[1] * 4
