import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils._triton import has_triton_package

from traces.simulator import SimDevice
from traces.targets.sglang import shims
from traces.targets.sglang.shims import module_binding, triton_package
from traces.targets.sglang.shims.triton_interpreter import (
    InterpretedKernel,
    KernelUnavailableError,
)

HAS_TRITON = importlib.util.find_spec("triton") is not None

# A package in the manner of a release; its names are what matters.
POOL = """
from collections import defaultdict
import psutil
from sglang.compiled import transfer_hicache_one_layer_mla as jit_transfer_one

def alloc_with_host_register(*_, **__):
    raise RuntimeError("no driver")

class Plain:
    pass

class Capabilities:
    hicache_device_kernels = False
    supports_triton = False

class Platform:
    capabilities = Capabilities()
    name = "cpu"

    def synchronize(self):
        raise RuntimeError("no device")

_is_cuda = False
current_platform = Platform()

ALLOC_MEMORY_FUNCS = defaultdict(lambda: alloc_with_host_register)

class Pool:
    def load(self, *arguments):
        return transfer_kv_direct(*arguments)

    def unknown(self):
        return transfer_kv_of_the_future

def available():
    return psutil.virtual_memory().available, psutil.cpu_count()
"""
COMPILED = """
_is_cuda = False

def load_jit(*_, **__):
    raise RuntimeError("no compiler")

def can_use_jit_kernel(*, element_size):
    if element_size % 16:
        return False
    try:
        load_jit("hicache", element_size)
    except RuntimeError:
        return False
    return True

def transfer_hicache_one_layer_mla(*_, **__):
    raise RuntimeError("no compiler")
"""
PLAIN = """
_is_cuda = False

def move():
    pass

transfer_rows = move

def load_jit(*_, **__):
    raise RuntimeError("no compiler")
"""
KERNEL = """
import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime.jit import KernelInterface

BLOCK = tl.constexpr(32)
DTYPES = {"fp8": tl.float8e4nv, "bf16": tl.bfloat16}

class Launcher(KernelInterface):
    pass

@triton.autotune(configs=[triton.Config({"BLOCK": 64}, num_warps=4)], key=["n"])
@triton.heuristics({"EVEN": lambda args: True})
@triton.jit
def scale(pointer, n, BLOCK: tl.constexpr):
    tl.store(pointer + tl.arange(0, BLOCK), 0)

@triton.jit(do_not_specialize=["n"])
def other(n: tl.int32 | None):
    pass
"""


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "sglang"
    package.mkdir()
    files = {"__init__": "", "pool": POOL, "compiled": COMPILED, "kernel": KERNEL}
    files["plain"] = PLAIN
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "sglang"]:
        del sys.modules[name]


def imported(name: str) -> ModuleType:
    return importlib.import_module(f"sglang.{name}")


def test_modules_get_the_kernels_that_they_name(release: None, installed: shims.Shims) -> None:
    pool = imported("pool")
    assert pool.transfer_kv_direct is installed.functions["transfer_kv_direct"]
    assert not hasattr(pool, "transfer_kv_all_layer")
    assert not hasattr(pool, "transfer_kv_of_the_future")
    assert pool.jit_transfer_one is installed.functions["transfer_hicache_one_layer_mla"]
    assert installed.bind() == [
        "sglang.compiled.load_jit",
        "sglang.compiled.transfer_hicache_one_layer_mla",
        "sglang.compiled._is_cuda",
        "sglang.pool.current_platform.synchronize",
        "sglang.pool.transfer_kv_direct",
        "sglang.pool._is_cuda",
        "sglang.pool.current_platform",
        "sglang.pool.psutil",
        "sglang.pool.ALLOC_MEMORY_FUNCS",
    ]


def test_modules_with_kernels_are_told_that_there_is_cuda(
    release: None, installed: shims.Shims
) -> None:
    pool = imported("pool")
    assert pool._is_cuda is True
    assert pool.current_platform.capabilities.hicache_device_kernels is True
    assert pool.current_platform.capabilities.supports_triton is False
    assert pool.current_platform.name == "cpu"


def test_the_platform_that_a_release_chose_waits_for_the_device(
    release: None, installed: shims.Shims
) -> None:
    pool = imported("pool")
    rows = torch.zeros(2, 4)
    installed.watch(rows, "device pool")
    rows.fill_(7)
    with installed.pause_interception():
        assert rows.sum() == 0
    pool.current_platform.synchronize()
    with installed.pause_interception():
        assert rows.sum() == 56


def test_kernels_that_a_release_compiles_count_as_compiled(
    release: None, installed: shims.Shims
) -> None:
    """Whether rows of a size can be moved is still the release's own rule."""
    compiled = imported("compiled")
    assert compiled.can_use_jit_kernel(element_size=656) is True
    assert compiled.can_use_jit_kernel(element_size=650) is False


def test_modules_without_kernels_are_left_alone(release: None, installed: shims.Shims) -> None:
    """Control."""
    plain = imported("plain")
    assert plain._is_cuda is False
    assert plain.transfer_rows is plain.move


def test_kernels_without_an_equivalent_are_not_compiled(
    release: None, installed: shims.Shims
) -> None:
    """A build would take long, fail without a compiler and leave files."""
    with pytest.raises(KernelUnavailableError, match=r"^kernel store 64: must not be compiled"):
        imported("plain").load_jit("store", 64, cuda_files=["store.cuh"])


def test_modules_imported_before_are_bound_and_unbound(release: None, device: SimDevice) -> None:
    pool = imported("pool")
    before = dict(vars(pool))
    installed = shims.install(device)
    assert not hasattr(pool, "transfer_kv_direct")
    installed.bind()
    assert hasattr(pool, "transfer_kv_direct")
    installed.remove()
    assert dict(vars(pool)) == before
    with pytest.raises(RuntimeError, match="no driver"):
        pool.ALLOC_MEMORY_FUNCS["cpu"]()


@pytest.mark.parametrize("pin_memory", [True, False])
def test_host_pools_are_poisoned_and_know_whether_they_are_pinned(
    pin_memory: bool, release: None, device: SimDevice, installed: shims.Shims
) -> None:
    allocate = imported("pool").ALLOC_MEMORY_FUNCS[torch.device("cpu")]
    tensor = allocate(
        (3, 4), dtype=torch.bfloat16, device="cpu", pin_memory=pin_memory, allocator=None
    )
    assert tensor.shape == (3, 4)
    assert tensor.is_pinned() is tensor[1:].is_pinned() is device.is_pinned(tensor) is pin_memory
    assert tensor.view(torch.uint8).unique().tolist() == [0xA5]
    assert not torch.zeros(3).is_pinned()


def test_the_host_has_memory_enough(release: None, installed: shims.Shims) -> None:
    import psutil

    available, cpu_num = imported("pool").available()
    assert available == 1 << 40
    assert cpu_num == psutil.cpu_count()
    assert psutil.virtual_memory().available < 1 << 40


def test_sgl_kernel_has_the_transfers_that_are_built_ahead(
    installed: shims.Shims,
) -> None:
    transfers = importlib.import_module("sgl_kernel.kvcacheio")
    assert transfers.transfer_kv_direct is installed.functions["transfer_kv_direct"]
    assert not hasattr(transfers, "transfer_hicache_one_layer")
    installed.remove()
    assert "sgl_kernel" not in sys.modules


def test_torchvision_schemas_are_there(installed: shims.Shims) -> None:
    assert torch.ops.torchvision.nms is not None
    assert torch.ops.torchvision.qnms is not None


@pytest.mark.parametrize("loads", [True, False])
def test_torchvision_operators_that_load_are_loaded_before_any_is_defined(
    loads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").touch()
    (tmp_path / "torchvision" / "_C.so").touch()
    monkeypatch.syspath_prepend(tmp_path)
    compiled = torch.library.Library("torchvision", "FRAGMENT")
    asked: list[str] = []

    def load(path: str) -> None:
        asked.append(path)
        if not loads:
            raise OSError("libcudart.so.13: cannot open shared object file")
        compiled.define("nms(Tensor dets, Tensor scores, float threshold) -> Tensor")

    monkeypatch.setattr(torch.ops, "load_library", load)
    changes = module_binding.AttributePatches()
    module_binding.add_vision_operators(changes)
    (threshold,) = torch.ops.torchvision.nms.default._schema.arguments[2:]
    assert asked == [str(tmp_path / "torchvision" / "_C.so")]
    assert threshold.name == ("threshold" if loads else "iou_threshold")
    changes.undo()
    compiled._destroy()


def test_triton_kernels_can_be_defined_and_launched(release: None, installed: shims.Shims) -> None:
    kernel = imported("kernel")
    cleared = torch.ones(66)
    kernel.scale[(1,)](cleared, 3, BLOCK=64)
    kernel.other[(2, 2)](None)
    assert cleared.tolist() == [0.0] * 64 + [1.0] * 2
    import triton

    assert [triton.cdiv(7, 2), triton.next_power_of_2(5), triton.next_power_of_2(8)] == [4, 8, 8]
    assert triton.__version__.startswith("3.")


def test_torch_sees_no_triton(installed: shims.Shims) -> None:
    assert importlib.util.find_spec("triton") is not None
    assert not has_triton_package()
    from torch._inductor.runtime import triton_compat

    assert not triton_compat.HAS_TRITON
    installed.remove()
    assert (importlib.util.find_spec("triton") is not None) == HAS_TRITON


@pytest.fixture
def installed_triton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Yield an installed package triton, imported, whose kernels cannot be defined here."""
    package = tmp_path / "triton"
    package.mkdir()
    (package / "__init__.py").write_text("def jit(*_):\n    raise RuntimeError('no GPU')\n")
    (package / "language.py").write_text("")
    with monkeypatch.context() as patched:
        for name in [name for name in sys.modules if name.partition(".")[0] == "triton"]:
            patched.delitem(sys.modules, name)
        patched.syspath_prepend(tmp_path)
        has_triton_package.cache_clear()
        yield importlib.import_module("triton")
        for name in [name for name in sys.modules if name.partition(".")[0] == "triton"]:
            del sys.modules[name]
    has_triton_package.cache_clear()


def test_an_installed_triton_gives_way_to_the_interpreter_and_comes_back(
    installed_triton: ModuleType,
) -> None:
    assert has_triton_package()
    # inspect keeps the file of each module by its name.
    inspect.getmodule(None, "one.py")
    undo = triton_package.install()
    try:
        ours = importlib.import_module("triton")
        inspect.getmodule(None, "other.py")
        kernel = ours.jit(len)
        assert isinstance(kernel, InterpretedKernel)
        assert not has_triton_package()
    finally:
        undo()
    assert importlib.import_module("triton") is installed_triton
    assert has_triton_package()
