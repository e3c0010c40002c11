"""Kernels of a module that is written in the package ``triton`` of the shims."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from traces.targets.sglang.shims import triton_package
from traces.targets.sglang.shims.triton_interpreter import (
    KernelUnavailableError,
    Language,
    Pointer,
)

KERNELS = """
import triton
import triton.language as tl

@triton.jit
def row_of(slot, width):
    return slot * width + tl.arange(0, 4)

@triton.jit
def scatter(rows, table, slots, number, width: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < number
    slot = tl.load(slots + place, mask=mask, other=0)
    mask = mask & (slot != 0)
    for column in tl.static_range(width):
        value = tl.load(rows + place * width + column, mask=mask, other=-1)
        tl.store(table + slot * width + column, value, mask=mask)

@triton.jit
def clear(table, slot, width):
    tl.store(table + row_of(slot, width), 0)

@triton.jit
def number(table):
    tl.store(table + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), tl.program_id(1))

@triton.jit
def double(source, target, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(target + place, 2 * tl.load(source + place))

@triton.jit
def quantize(rows, codes, scales, LARGEST: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = row * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(rows + place).to(tl.float32)
    scale = tl.max(tl.abs(values)) / LARGEST
    tl.store(scales + row, scale)
    value = tl.clamp(values / scale, -LARGEST, LARGEST)
    tl.store(codes + place, value.to(codes.dtype.element_ty))

@triton.jit
def add(table):
    tl.atomic_add(table, 1)
"""


@pytest.fixture
def kernels() -> Iterator[SimpleNamespace]:
    # Where the real package is installed, its kernels need a GPU.
    finder = triton_package.TritonFinder()
    known = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_triton(name)}
    sys.meta_path.insert(0, finder)
    names: dict[str, object] = {"__name__": "kernels"}
    exec(KERNELS, names)
    yield SimpleNamespace(**names)
    sys.meta_path.remove(finder)
    for name in filter(_is_triton, list(sys.modules)):
        del sys.modules[name]
    sys.modules.update(known)


def _is_triton(name: str) -> bool:
    return name.partition(".")[0] == "triton"


def test_every_program_of_the_grid_writes_what_its_mask_lets_it(kernels):
    rows = torch.arange(1, 7, dtype=torch.int32).reshape(3, 2)
    table = torch.zeros((5, 2), dtype=torch.int32)

    kernels.scatter[(2,)](rows, table, torch.tensor([4, 0, 2]), 3, width=2, BLOCK=2, num_warps=4)

    assert table.tolist() == [[0, 0], [0, 0], [5, 6], [0, 0], [1, 2]]


def test_kernel_calls_another_one(kernels):
    table = torch.ones(12)
    kernels.clear[(1,)](table, 1, 4)
    assert table.tolist() == [1.0] * 4 + [0.0] * 4 + [1.0] * 4


@pytest.mark.parametrize("grid", [(2, 3), lambda given: (2, given["table"].numel() // 2)])
def test_programs_are_numbered_along_every_axis(grid, kernels):
    table = torch.full((6,), -1)
    kernels.number[grid](table)
    assert table.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_sum_is_that_of_the_elements_that_a_mask_lets_through():
    language = Language("total", grid=(1, 1, 1), program=(0, 0, 0))
    numbers = Pointer(torch.tensor([3, 4, 5]), language.arange(0, 4))
    found = language.load(numbers, mask=language.arange(0, 4) < 2)
    assert (language.sum(found).shape, int(language.sum(found))) == ((), 7)


def test_rows_are_quantized_by_their_largest_element(kernels):
    rows = torch.tensor([[1.0, -4.0], [0.5, 0.25]], dtype=torch.bfloat16)
    codes, scales = torch.zeros((2, 2), dtype=torch.int8), torch.zeros(2)
    kernels.quantize[(2,)](rows, codes, scales, 8, BLOCK=2)
    assert (codes.tolist(), scales.tolist()) == ([[2, -8], [8, 4]], [0.5, 0.0625])


def test_pointer_begins_where_its_tensor_does(kernels):
    source, target = torch.arange(8), torch.zeros(4, dtype=torch.int16)
    kernels.double.run(source[3:5], target[1:], grid=(1,), BLOCK=2)
    assert target.tolist() == [0, 6, 8, 0]


@pytest.mark.parametrize(("first", "got"), [(6, "0 to 3"), (-1, "-4 to -1")])
def test_memory_outside_of_the_tensor_is_refused(first, got, kernels):
    table = torch.ones(8)
    slot, table = (0, table[6:]) if first == 6 else (first, table)
    with pytest.raises(RuntimeError, match=f"illegal memory access .*got {got}"):
        kernels.clear[(1,)](table, slot, 4)
    assert table.min() == 1


def test_kernel_that_asks_for_more_is_refused_by_the_name(kernels):
    table = torch.zeros(1)
    with pytest.raises(KernelUnavailableError, match=r"triton kernel add: .*got atomic_add"):
        kernels.add[(1,)](table)
    assert table.tolist() == [0]


def test_kernel_is_not_called_without_a_grid(kernels):
    with pytest.raises(KernelUnavailableError, match=r"triton kernel double: .*got a call"):
        kernels.double(torch.zeros(1), torch.zeros(1), BLOCK=1)
