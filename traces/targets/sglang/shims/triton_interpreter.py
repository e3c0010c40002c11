"""Interpreter of triton kernels: runs a kernel's own Python function on tensors.

Programs run one after the other. A load or store is an operation of torch on the selected elements,
which the device sees like any other: as work of the current stream. Only the part of the language
that addresses and moves elements is there; a kernel that asks for more is refused by name, and so
is memory outside the tensor that a pointer came from.
"""

import inspect
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeAlias

import torch

LANGUAGE = "triton.language"

Offsets: TypeAlias = torch.Tensor | int
Mask: TypeAlias = torch.Tensor | bool
Value: TypeAlias = torch.Tensor | float
_AXES = 3


class KernelUnavailableError(RuntimeError):
    """A kernel was launched that only a GPU can run and that has no equivalent here."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """Addresses of elements: offsets from the first element of a tensor, in elements."""

    tensor: torch.Tensor
    offsets: Offsets

    @property
    def dtype(self) -> "PointerType":
        """The type of the pointer."""
        return PointerType(self.tensor.dtype)

    def __add__(self, more: Offsets) -> "Pointer":
        return Pointer(self.tensor, self.offsets + more)

    __radd__ = __add__

    def __sub__(self, less: Offsets) -> "Pointer":
        return Pointer(self.tensor, self.offsets - less)


@dataclass(frozen=True, slots=True)
class PointerType:
    """Type of a pointer, named as in triton."""

    element_ty: torch.dtype


class Number(int):
    """A number that a kernel may convert to a type, which changes nothing here."""

    def to(self, _type: object) -> "Number":
        """Return the number."""
        return self


class Language:
    """The names of ``triton.language`` within one program of a grid.

    Raises:
        KernelUnavailableError: a name that is none of the methods below was asked for.
    """

    def __init__(self, kernel: str, *, grid: Sequence[int], program: Sequence[int]) -> None:
        self._kernel = kernel
        self._grid = grid
        self._program = program

    def __getattr__(self, name: str) -> object:
        raise KernelUnavailableError(
            f"triton kernel {self._kernel}: must not be launched without a GPU; "
            f"expected a language that is interpreted here, got {name}"
        )

    range = static_range = staticmethod(range)
    where = staticmethod(torch.where)
    abs = staticmethod(torch.abs)
    clamp = staticmethod(torch.clamp)
    int32, int64 = torch.int32, torch.int64
    float16, bfloat16, float32 = torch.float16, torch.bfloat16, torch.float32

    def program_id(self, axis: int) -> "Number":
        """Return the number of the program along an axis of the grid."""
        return Number(self._program[axis])

    def num_programs(self, axis: int) -> int:
        """Return the number of programs along an axis of the grid."""
        return self._grid[axis]

    def arange(self, start: int, end: int) -> torch.Tensor:
        """Return consecutive numbers, ``(end - start,) int64``."""
        return torch.arange(start, end)

    def cdiv(self, x: int, y: int) -> int:
        """Return the quotient, rounded up."""
        return -(-x // y)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of all elements, ``()``."""
        return values.sum()

    def max(self, values: torch.Tensor) -> torch.Tensor:
        """Return the largest element, ``()``."""
        return values.max()

    def load(
        self, pointer: Pointer, mask: Mask | None = None, other: float = 0, **_hints: object
    ) -> torch.Tensor:
        """Return the elements at some addresses; ``other`` where the mask is false."""
        offsets, wanted = self._selected(pointer, mask)
        elements = self._elements(pointer, offsets[wanted])
        found = torch.full(offsets.shape, other, dtype=elements.dtype)
        found[wanted] = elements[offsets[wanted]]
        return found

    def store(
        self, pointer: Pointer, value: Value, mask: Mask | None = None, **_hints: object
    ) -> None:
        """Give the elements at some addresses their values where the mask is true."""
        offsets, wanted = self._selected(pointer, mask)
        elements = self._elements(pointer, offsets[wanted])
        values = torch.as_tensor(value).expand(offsets.shape)
        elements[offsets[wanted]] = values[wanted].to(elements.dtype)

    def _selected(self, pointer: Pointer, mask: Mask | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return offsets, and which of them are accessed, in one shape."""
        is_wanted = torch.as_tensor(mask is None or mask, dtype=torch.bool)
        offsets = torch.as_tensor(pointer.offsets, dtype=torch.int64)
        both: tuple[torch.Tensor, torch.Tensor] = torch.broadcast_tensors(offsets, is_wanted)
        return both

    def _elements(self, pointer: Pointer, offsets: torch.Tensor) -> torch.Tensor:
        """Return the memory behind a pointer, ``(element_num,)``, that holds all offsets."""
        tensor = pointer.tensor
        first = int(tensor.storage_offset())
        number = tensor.untyped_storage().nbytes() // tensor.element_size() - first
        if offsets.numel() and not 0 <= int(offsets.min()) <= int(offsets.max()) < number:
            raise RuntimeError(
                f"CUDA error: an illegal memory access was encountered (triton kernel "
                f"{self._kernel}: expected elements 0 to {number - 1} of a tensor, got "
                f"{int(offsets.min())} to {int(offsets.max())})"
            )
        return tensor.as_strided((number,), (1,), first)


def launch(
    function: FunctionType, grid: object, arguments: Sequence[Any], named: Mapping[str, Any]
) -> None:
    """Run every program of a kernel.

    Raises:
        KernelUnavailableError: the kernel asks for more than is interpreted.
        RuntimeError: it accesses memory outside of a tensor.
    """
    signature = inspect.signature(function)
    # Other names are options of the compiler, which change no bytes.
    known = {name: value for name, value in named.items() if name in signature.parameters}
    given = signature.bind(*arguments, **known)
    given.apply_defaults()
    sizes = grid(dict(given.arguments)) if callable(grid) else grid
    sizes = tuple(sizes) if isinstance(sizes, tuple | list) else (sizes,)
    sizes += (1,) * (_AXES - len(sizes))
    values = {
        name: Pointer(value, 0) if isinstance(value, torch.Tensor) else value
        for name, value in given.arguments.items()
    }
    for program in itertools.product(*map(range, sizes)):
        language = Language(function.__name__, grid=sizes, program=program)
        _with_language(function, language)(**values)


def _with_language(function: FunctionType, language: Language) -> Callable[..., object]:
    """Return a function whose module, and the kernels that it calls, are in a language."""
    module = sys.modules.get(LANGUAGE)
    replaced: dict[str, object] = {}
    for name, value in function.__globals__.items():
        if value is module:
            replaced[name] = language
        elif isinstance(value, InterpretedKernel):
            replaced[name] = value.in_language(language)
    return FunctionType(
        function.__code__,
        {**function.__globals__, **replaced},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


class InterpretedKernel:
    """A kernel definition; ``fn`` is the decorated function."""

    def __init__(self, function: FunctionType) -> None:
        self.fn = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return lambda *arguments, **named: launch(self.fn, grid, arguments, named)

    def run(self, *arguments: Any, grid: object, **named: Any) -> None:  # noqa: ANN401
        """Run every program of the grid; see :func:`launch`."""
        launch(self.fn, grid, arguments, named)

    def __call__(self, *_arguments: object, **_named: object) -> None:
        """Refuse a call from outside of a kernel, as triton does."""
        raise KernelUnavailableError(
            f"triton kernel {self.__name__}: must be launched on a grid; expected one, got a call"
        )

    def in_language(self, language: Language) -> Callable[..., object]:
        """Return the function for the programs of a kernel that calls it."""

        def call(*arguments: object, **named: object) -> object:
            # Not before it is called: kernels of a module know each other.
            return _with_language(self.fn, language)(*arguments, **named)

        return call
