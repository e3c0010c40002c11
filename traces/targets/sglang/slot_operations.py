"""Operations of pools on slots: copies, clears, copies to the host and back.

What belongs to a slot must go with it. That is the rows of every plane that can be reached from the
pool, and what is registered with the pool at run time. Both are found here by what the release has:
operations by their signatures, registrations by the methods that take an object.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any, Literal, TypeAlias

import torch

from traces.recording.binding import signature_of
from traces.schema.pools import SlotOperation
from traces.targets.common.content import RowBuffer, overwrite, row_bytes, row_content
from traces.targets.common.planes import Plane, SlotDomain
from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.pool_answers import failure_text

_Effect: TypeAlias = Literal["copy", "clear", "round_trip", "other"]

STEP = "slots"
_REGISTERING = ("register_", "attach_", "add_")
_INDICES = ("indices", "index", "loc", "slots", "rows")
_SOURCE = "src"
_CLEARING = ("clear", "reset")
_SAVE, _LOAD = "get_", "load_"
_COPY_SLOTS = 2
_ROWS = ("alloc_rows", "free_rows", "clear")
_REQUEST = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operation:
    name: str
    effect: _Effect
    # Takes source slots and target slots.
    run: Callable[[torch.Tensor, torch.Tensor], object]


class RegisteredObject:
    """Object for any registration: takes every call and keeps the names of what is called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, *_arguments: object, **_named: object) -> tuple[()]:
        """Keep that the object itself was called."""
        self.calls.append("__call__")
        return ()

    def __getattr__(self, name: str) -> Callable[..., tuple[()]]:
        if name.startswith("__"):
            raise AttributeError(name)

        def called(*_arguments: object, **_named: object) -> tuple[()]:
            self.calls.append(name)
            return ()

        return called


class SlotOperations:
    """The operations on slots of the pools of one stack.

    ``domains`` are the slots of a pool's operations, by the identity of the pool.
    """

    def __init__(self, planes: Sequence[Plane], domains: Mapping[int, SlotDomain]) -> None:
        self._planes = planes
        self._domains = domains

    def of_pool(self, held: HeldPool, *, step: str) -> Iterator[SlotOperation]:
        """Yield what each operation of a pool does to planes and to what is registered."""
        domain = self._domains.get(id(held.pool))
        if domain is None:
            return
        operations = tuple(_operations(held))
        planes = self._reachable(held, domain)
        for operation in operations:
            if operation.effect != "other" and planes:
                yield from self._moved(held, operation, planes, step)
        for name, _ in _registrations(held):
            for operation in operations:
                yield self._called(held, operation, name, step)

    def _reachable(self, held: HeldPool, domain: SlotDomain) -> tuple[Plane, ...]:
        """Return the planes of some slots whose memory a pool holds."""
        own = [buffer.tensor for buffer in buffers_of(held.pool)]
        storages = {tensor.untyped_storage().data_ptr() for tensor in own}
        return tuple(
            plane
            for plane in self._planes
            if plane.domain == domain
            and plane.layers[0].tensor.untyped_storage().data_ptr() in storages
        )

    def _moved(
        self, held: HeldPool, operation: _Operation, planes: Sequence[Plane], step: str
    ) -> Iterator[SlotOperation]:
        """Yield whether each plane's rows went along."""
        source, target = self._slots(held)
        before = {plane.name: _write(plane, source, target) for plane in planes}
        reason = _attempt(partial(operation.run, source, target))
        for plane in planes:
            moved, old = before[plane.name]
            now = [_rows(buffer, target) for buffer in plane.layers]
            expected = old if operation.effect == "clear" else moved
            alike = [torch.equal(*pair) for pair in zip(now, expected, strict=True)]
            carried = not any(alike) if operation.effect == "clear" else all(alike)
            yield SlotOperation(
                step=step,
                holder=held.path,
                method=operation.name,
                subject=plane.name,
                is_plane=True,
                carried=carried and not reason,
                calls=(),
                reason=reason,
            )

    def _called(
        self, held: HeldPool, operation: _Operation, registration: str, step: str
    ) -> SlotOperation:
        """Return whether an operation reaches an object that was registered before it."""
        known = RegisteredObject()
        with _restored(held.pool):
            reason = _attempt(partial(getattr(held.pool, registration), known))
            known.calls.clear()
            reason = reason or _attempt(partial(operation.run, *self._slots(held)))
        return SlotOperation(
            step=step,
            holder=held.path,
            method=operation.name,
            subject=registration,
            is_plane=False,
            carried=bool(known.calls),
            calls=tuple(dict.fromkeys(known.calls)),
            reason="" if known.calls else reason,
        )

    def _slots(self, held: HeldPool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the slots of two pages, in device memory."""
        page = self._domains[id(held.pool)].page_size
        device = getattr(held.pool, "device", "cpu")
        first, second = (
            torch.arange(number * page, (number + 1) * page, device=device) for number in (1, 2)
        )
        return first, second


def _operations(held: HeldPool) -> Iterator[_Operation]:
    methods = dict(held.methods())
    for name, method in methods.items():
        wanted = wanted_parameters(method)
        bound = getattr(held.pool, name)
        if len(wanted) == _COPY_SLOTS and all(map(takes_slots, wanted)):
            yield _Operation(name=name, effect="copy", run=_copier(bound, wanted))
        elif name.startswith(_CLEARING) and len(wanted) == 1 and takes_slots(wanted[0]):
            yield _Operation(name=name, effect="clear", run=_clearing(bound))
        elif name.startswith(_SAVE) and name.replace(_SAVE, _LOAD, 1) in methods:
            load = getattr(held.pool, name.replace(_SAVE, _LOAD, 1))
            if len(wanted) == 1 and takes_slots(wanted[0]):
                yield _Operation(name=name, effect="round_trip", run=_round_trip(bound, load))
        elif name in _ROWS:
            arguments = ([_REQUEST] if takes_slots(wanted[0]) else _REQUEST,) if wanted else ()
            yield _Operation(name=name, effect="other", run=_calling(bound, arguments))


def _registrations(held: HeldPool) -> Iterator[tuple[str, FunctionType]]:
    """Yield the methods that register one object with a pool."""
    for name, method in held.methods():
        if name.startswith(_REGISTERING) and len(wanted_parameters(method)) == 1:
            yield name, method


def wanted_parameters(method: FunctionType) -> list[str]:
    """Return the parameters of a method that have no default, but for ``self``."""
    parameters = list(signature_of(method).parameters.values())[1:]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty and parameter.kind not in variadic
    ]


def takes_slots(parameter: str) -> bool:
    """Return whether a parameter is named like one for slots."""
    return parameter.endswith(_INDICES)


def _copier(
    copy: Callable[..., object], wanted: Sequence[str]
) -> Callable[[torch.Tensor, torch.Tensor], object]:
    """Return a copy from source to target slots; a release may name the target first."""
    is_source_first = wanted[0].startswith(_SOURCE)
    return lambda source, target: copy(*((source, target) if is_source_first else (target, source)))


def _clearing(
    clear: Callable[..., object],
) -> Callable[[torch.Tensor, torch.Tensor], object]:
    return lambda _, target: clear(target)


def _calling(
    call: Callable[..., object], arguments: Sequence[object]
) -> Callable[[torch.Tensor, torch.Tensor], object]:
    return lambda *_slots: call(*arguments)


def _round_trip(
    save: Callable[..., Any], load: Callable[..., object]
) -> Callable[[torch.Tensor, torch.Tensor], object]:
    return lambda source, target: load(save(source), target)


def _attempt(call: Callable[[], object]) -> str:
    """Call something; return the reason why it failed, else an empty text."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - recorded as the reason
        return failure_text(error)
    return ""


@contextmanager
def _restored(pool: Any) -> Iterator[None]:  # noqa: ANN401 - any class of pools
    """Give a pool back its attributes when the block ends."""
    kept = dict(vars(pool))
    try:
        yield
    finally:
        vars(pool).clear()
        vars(pool).update(kept)


def _write(
    plane: Plane, source: torch.Tensor, target: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Write other content to both slots of a plane; return it layer by layer."""
    written: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for buffer in plane.layers:
        for author, slots, kept in zip(("moved", "old"), (source, target), written, strict=True):
            content = row_content(buffer, slots.cpu(), author=author)
            for row, own in zip(buffer.rows_of(slots), content, strict=True):
                overwrite(buffer.tensor[int(row)], own[None])
            kept.append(content)
    return written


def _rows(buffer: RowBuffer, slots: torch.Tensor) -> torch.Tensor:
    return row_bytes(buffer.tensor[buffer.rows_of(slots).to(buffer.tensor.device)])
