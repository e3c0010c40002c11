"""The backends that have a faster way on the GPUs of this machine."""

from collections.abc import Mapping
from functools import cache

from assembler.names import IoBackend
from assembler.transfer.cuda.batch import find_batched_copy
from assembler.transfer.cuda.compiler import find_compiler
from assembler.transfer.cuda.copier import GroupCopier
from assembler.transfer.cuda.direct import CudaDirectMover
from assembler.transfer.cuda.kernel import CudaKernelMover
from assembler.transfer.cuda.ways import DIRECT_LIMITS, KERNEL_LIMITS
from assembler.transfer.mover import SetMover


@cache
def cuda_movers() -> Mapping[IoBackend, SetMover]:
    """Return movers by backend; a backend is missing where the portable one has to do.

    ``direct`` needs a driver with batched copies (CUDA 12.8), ``kernel`` needs NVRTC, which comes
    with torch's packages for CUDA.
    """
    movers: dict[IoBackend, SetMover] = {}
    copy_blocks, has_kernels = find_batched_copy(), find_compiler() is not None
    if has_kernels:
        copier = GroupCopier(copy_blocks, has_kernels=True, limits=KERNEL_LIMITS)
        movers[IoBackend.KERNEL] = CudaKernelMover(copier)
    if copy_blocks is not None:
        copier = GroupCopier(copy_blocks, has_kernels=has_kernels, limits=DIRECT_LIMITS)
        movers[IoBackend.DIRECT] = CudaDirectMover(copier)
    return movers
