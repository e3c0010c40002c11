"""Tensor operations of torch on pools' memory, as work of the current stream.

On a GPU, operations on device memory run on the current stream and those on host memory on the
host. Here both are host memory, so the registered kind of a tensor's memory decides:

* An operation that only writes pools' memory runs when the stream reaches it.
* One that returns a new tensor runs at once, after the stream's earlier work. That orders nothing:
  the race detector treats it like other work of the stream.
* One that returns a number makes the host wait for the stream.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch.utils._pytree import tree_map_only
from typing_extensions import override

from assembler.device import Device, MemoryAccess, tensor_access
from traces.simulator.memory import MemoryKind
from traces.targets.common.labels import OperationLabel, place_of
from traces.targets.sglang.shims.element_origins import ElementOrigins
from traces.targets.sglang.shims.footprint import footprint, written_operands
from traces.targets.sglang.shims.interception import InterceptionPause, Interceptor
from traces.targets.sglang.shims.operands import tensors_in
from traces.targets.sglang.shims.tracked_storage import StorageTable


class StreamOperations(Interceptor):
    """Intercepts every tensor operation of the thread that entered it, outside of ``pause``."""

    def __init__(self, *, device: Device, buffers: StorageTable, pause: InterceptionPause) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self._buffers = buffers
        self._pause = pause
        self._provenance = ElementOrigins(buffers)

    @classmethod
    @override
    def _should_skip_dynamo(cls) -> bool:
        """Return False: nothing is compiled here, and a wrapper would cost every operation."""
        return False

    @override
    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        named = {} if kwargs is None else kwargs
        # A view touches no memory, and most operations are one.
        if self._pause.depth or _is_view(func):
            return func(*args, **named)
        with self._pause:
            return self._handle(func, args, named)

    def _handle(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - the result of the operation
        found = map(self._buffers.find, tensors_in((args, named)))
        kinds = {buffer.kind for buffer in found if buffer is not None}
        if not kinds:
            return func(*args, **named)
        if MemoryKind.DEVICE not in kinds:
            return self._run_on_host(func, args, named)
        written = written_operands(func, args, named)
        if written and self._are_pools(written) and len(func._schema.returns) <= 1:  # noqa: SLF001
            return self._enqueue(func, args, named, written)
        return self._run_synchronously(func, args, named)

    def _run_on_host(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:  # noqa: ANN401
        reads, writes = footprint(func, args, named, pause=self._pause)
        self._device.host_access(
            label=str(func), reads=self._known(reads), writes=self._known(writes)
        )
        return func(*args, **named)

    def _enqueue(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        named: dict[str, Any],
        written: list[torch.Tensor],
    ) -> Any:  # noqa: ANN401
        """Launch an operation that only writes pools' memory."""
        _check(func, args)
        self._provenance.report(func, args, stream=self._device.current_stream().name)
        # Tensors of the host are read at launch: it may change them before the operation runs.
        args, named = tree_map_only(torch.Tensor, self._captured, (args, named))
        reads, writes = footprint(func, args, named, pause=self._pause)
        self._device.launch(
            self._run_uninterrupted(lambda: func(*args, **named)),
            label=self._label(func, writes),
            reads=self._known(reads),
            writes=self._known(writes),
        )
        return written[0] if func._schema.returns else None  # noqa: SLF001

    def _run_synchronously(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:  # noqa: ANN401
        """Launch an operation and wait for the stream, without an order for the race detector."""
        results: list[Any] = []
        ordered = torch.zeros(1)

        def operation() -> None:
            results.append(func(*args, **named))

        reads, writes = footprint(func, args, named, pause=self._pause)
        self._device.launch(
            self._run_uninterrupted(operation),
            label=str(func),
            # A copy that reads pageable memory makes the host wait without ordering it.
            reads=(*self._known(reads), tensor_access(ordered)),
            writes=self._known(writes),
        )
        if func._schema.returns and not tensors_in(results[0]):  # noqa: SLF001
            # Not `synchronize`, which a probe observes: on a GPU this wait is implicit.
            self._device.current_stream()._synchronize()  # noqa: SLF001
        self._adopt_results(results[0], args, named)
        self._provenance.follow(func, args, named, results[0])
        return results[0]

    def _run_uninterrupted(self, operation: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            with self._pause:
                operation()

        return run

    def _known(self, accesses: Sequence[MemoryAccess]) -> tuple[MemoryAccess, ...]:
        return tuple(access for access in accesses if self._buffers.find(access.tensor) is not None)

    def _captured(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone() if self._buffers.find(tensor) is None else tensor

    def _are_pools(self, written: list[torch.Tensor]) -> bool:
        found = [self._buffers.find(tensor) for tensor in written]
        return all(buffer is not None and buffer.is_pool for buffer in found)

    def _adopt_results(self, result: object, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Register new results as device memory, written by the current stream."""
        operands = set(map(id, tensors_in((args, named))))
        new = [
            value
            for value in tensors_in(result)
            if id(value) not in operands and self._buffers.find(value) is None and value.numel()
        ]
        for tensor in new:
            self._buffers.add(tensor, name="result", kind=MemoryKind.DEVICE, is_pool=False)
        if new:
            self._device.launch(
                lambda: None, label="result", reads=(), writes=tuple(map(tensor_access, new))
            )

    def _label(self, func: torch._ops.OpOverload, writes: Sequence[MemoryAccess]) -> OperationLabel:
        buffers = [self._buffers.find(access.tensor) for access in writes]
        names = [buffer.name for buffer in buffers if buffer is not None]
        return OperationLabel(
            f"{func} to {names[0]}" if names else str(func),
            operation=str(func),
            place=place_of(names[0]) if names else None,
        )


@cache
def _is_view(func: torch._ops.OpOverload) -> bool:
    """Return whether an operation accesses no bytes: its results are views, or it has none."""
    schema = func._schema  # noqa: SLF001 - torch has no public way
    aliases = [value.alias_info for value in (*schema.arguments, *schema.returns)]
    is_written = any(alias is not None and alias.is_write for alias in aliases)
    returned = [value.alias_info for value in schema.returns]
    return not is_written and (func.is_view or (bool(returned) and None not in returned))


def _check(func: torch._ops.OpOverload, args: tuple[Any, ...]) -> None:
    """Compare the shapes of a copy at launch, as torch does on a GPU."""
    if func is torch.ops.aten.copy_.default and args[0].shape != args[1].shape:
        byte = torch.empty(1, dtype=torch.uint8)
        torch.empty(args[0].shape, dtype=torch.uint8).copy_(byte.expand(args[1].shape))
