"""The run-time compiler of CUDA (NVRTC), which comes with torch's packages for CUDA."""

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from assembler.errors import TransferError

# The first is torch's own library: it finds NVRTC where torch's packages put it.
_LIBRARIES = (
    str(Path(torch.__file__).parent / "lib" / "libcaffe2_nvrtc.so"),
    *(f"libnvrtc.so{suffix}" for suffix in ("", ".13", ".12")),
)


@cache
def find_compiler() -> Any:  # noqa: ANN401 - ctypes makes functions of a library as they are asked for
    """Return the library of the compiler; None where there is none."""
    for name in _LIBRARIES:
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(name)
            if library.nvrtcCreateProgram is not None:
                return library
    return None


def compile_kernels(
    source: str, *, capability: tuple[int, int], definitions: Mapping[str, int]
) -> bytes:
    """Return machine code for GPUs of a compute capability.

    Args:
        source: CUDA C++ without includes.
        capability: the GPU's.
        definitions: macros.

    Raises:
        TransferError: there is no compiler, or it refuses the source.
    """
    compiler = find_compiler()
    if compiler is None:
        rule = "NVRTC must be installed"
        raise TransferError("row kernels", rule, expected="libnvrtc", got="no such library")
    major, minor = capability
    options = [
        f"--gpu-architecture=sm_{major}{minor}",
        "--std=c++17",
        *(f"-D{name}={number}" for name, number in definitions.items()),
    ]
    program = ctypes.c_void_p()
    code = compiler.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"row_kernels.cu", 0, None, None
    )
    _check(compiler, program, code)
    arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    _check(compiler, program, compiler.nvrtcCompileProgram(program, len(options), arguments))
    size = ctypes.c_size_t()
    _check(compiler, program, compiler.nvrtcGetCUBINSize(program, ctypes.byref(size)))
    image = ctypes.create_string_buffer(size.value)
    _check(compiler, program, compiler.nvrtcGetCUBIN(program, image))
    compiler.nvrtcDestroyProgram(ctypes.byref(program))
    return image.raw


def _check(compiler: Any, program: ctypes.c_void_p, code: int) -> None:  # noqa: ANN401
    if not code:
        return
    size = ctypes.c_size_t()
    compiler.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value + 1)
    compiler.nvrtcGetProgramLog(program, log)
    lines = [line for line in log.value.decode().splitlines() if "error" in line]
    rule, got = "NVRTC must compile them", lines[0] if lines else f"error {code}"
    raise TransferError("row kernels", rule, expected="NVRTC_SUCCESS", got=got)
