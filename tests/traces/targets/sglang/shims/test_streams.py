import pytest
import torch

from traces.simulator import SimDevice
from traces.targets.sglang import shims

ROWS, WIDTH = 8, 64


class Copy:
    """A backup on its own stream of bytes that the default stream writes just before."""

    def __init__(self, installed: shims.Shims) -> None:
        self.installed = installed
        self.module = torch.get_device_module()
        self.rows = torch.zeros(ROWS, 1, WIDTH, dtype=torch.uint8)
        installed.watch(self.rows, "device pool")
        self.host = installed.allocate_host((ROWS, 1, WIDTH), torch.uint8, pin_memory=True)
        self.indices = torch.arange(ROWS)

    def play(self, *, kernel: str, waits: bool) -> None:
        self.rows.fill_(7)
        written = self.module.Event()
        written.record()
        with self.module.stream(self.module.Stream()):
            if waits:
                written.wait(self.module.current_stream())
            if kernel == "direct":
                function = self.installed.functions["transfer_kv_direct"]
                function([self.rows], [self.host], self.indices, self.indices, page_size=1)
            elif kernel == "kernel":
                function = self.installed.functions["transfer_kv_per_layer_mla"]
                function(self.rows, self.host, self.indices, self.indices, WIDTH)
            else:
                self.host[self.indices] = self.rows[self.indices]
            done = self.module.Event()
            done.record()
        done.synchronize()

    def found(self) -> list[int]:
        with self.installed.pause_interception():
            values: list[int] = self.host.unique().tolist()
        return values


@pytest.mark.parametrize("kernel", ["kernel", "direct", "torch"])
def test_a_copy_without_wait_reads_stale_bytes_and_is_a_race(
    kernel: str, device: SimDevice, installed: shims.Shims
) -> None:
    copy = Copy(installed)
    copy.play(kernel=kernel, waits=False)
    assert copy.found() == [0]
    device.synchronize()
    assert len(device.races) == 1
    assert "device memory" in str(device.races[0])


@pytest.mark.parametrize("kernel", ["kernel", "direct", "torch"])
def test_a_copy_after_a_wait_reads_what_was_written(
    kernel: str, device: SimDevice, installed: shims.Shims
) -> None:
    copy = Copy(installed)
    copy.play(kernel=kernel, waits=True)
    assert copy.found() == [7]
    device.synchronize()
    assert device.races == []


@pytest.mark.parametrize(("waits", "races"), [(False, 1), (True, 0)])
def test_the_host_must_wait_before_it_reads_a_host_pool(
    waits: bool, races: int, device: SimDevice, installed: shims.Shims
) -> None:
    copy = Copy(installed)
    stream = copy.module.Stream()
    with stream:
        installed.functions["transfer_kv_per_layer_mla"](
            copy.rows, copy.host, copy.indices, copy.indices, WIDTH
        )
    if waits:
        stream.synchronize()
    assert int(copy.host.max()) == (0 if waits else 0xA5)
    device.synchronize()
    assert len(device.races) == races


def test_streams_answer_like_torch_cuda(installed: shims.Shims) -> None:
    module = torch.get_device_module()
    first, second = module.Stream(priority=-1), torch.cuda.Stream()
    assert isinstance(second, module.Stream)
    default = module.current_stream()
    with module.stream(first):
        assert module.current_stream() is first
        with module.stream(None):
            assert torch.cuda.current_stream() is first
    assert module.current_stream() is default is module.default_stream()
    second.wait_stream(first)
    second.wait_event(first.record_event())
    event = module.Event(enable_timing=True)
    assert event.query()
    event.record(first)
    event.synchronize()
    assert event.query()
    assert event.elapsed_time(module.Event(enable_timing=True)) == 0.0
    assert module.device_count() == torch.cpu.device_count()


def test_record_stream_accepts_host_tensors(installed: shims.Shims) -> None:
    torch.zeros(3).record_stream(torch.get_device_module().Stream())


def test_removed_stand_ins_leave_torch_as_it_was(device: SimDevice) -> None:
    def names() -> list[object]:
        modules = [torch.cuda.Stream, torch.cuda.Event, torch.cpu.Stream, torch.cuda.synchronize]
        return [*modules, torch.get_device_module, torch.Tensor.is_pinned, torch.cuda.cudart]

    before = names()
    installed = shims.install(device)
    assert all(now is not then for now, then in zip(names(), before, strict=True))
    installed.remove()
    assert all(now is then for now, then in zip(names(), before, strict=True))
    assert "Event" not in vars(torch.cpu) or torch.cpu.Event.__module__ == "torch.cpu"
