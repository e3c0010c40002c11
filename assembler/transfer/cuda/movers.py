"""The backends that have a faster way on the GPUs of this machine."""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

from assembler.names import IoBackend
from assembler.transfer.cuda.batch import find_batched_copy
from assembler.transfer.cuda.direct import CudaDirectMover
from assembler.transfer.mover import SetMover


@cache
def cuda_movers() -> Mapping[IoBackend, SetMover]:
    """Return movers by backend; a backend is missing where the portable one has to do.

    ``direct`` needs a driver with batched copies (CUDA 12.8), ``kernel`` needs Triton, which comes
    with torch's packages for CUDA on Linux.
    """
    movers: dict[IoBackend, SetMover] = {}
    copy_blocks = find_batched_copy()
    if find_spec("triton") is not None:
        from assembler.transfer.cuda.kernel import CudaKernelMover

        movers[IoBackend.KERNEL] = CudaKernelMover(copy_blocks)
    if copy_blocks is not None:
        movers[IoBackend.DIRECT] = CudaDirectMover(copy_blocks, movers.get(IoBackend.KERNEL))
    return movers
