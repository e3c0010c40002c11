"""Copies of slots to the host and back, while work of other streams on these slots is on its way.

A server that takes a request back copies its slots to the host and hands them out again; later it
loads the copy into other slots. Nothing orders that behind the forward pass of another stream but
what the methods do themselves. A wait for the device that one lacks shows as a missing event, and
on a simulated device as a race.

Methods are found by their names: one that loads has the name of one that makes the copy.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from traces.schema.pools import HostCopy
from traces.targets.common.content import RowBuffer, row_bytes, row_content
from traces.targets.common.planes import Plane, SlotDomain
from traces.targets.common.pool_buffers import buffers_of
from traces.targets.common.rows import launch_read, launch_write
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.pool_answers import failure_text
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.slot_operations import takes_slots, wanted_parameters

STEP = "host copies"
COPY_PREFIX = "copy."
"""Begins the names of the streams on which copies are made."""

_LOAD = "load_"
_SAVES = ("get_", "save_", "")
_STATES, _REQUEST = ("mamba_indices", "MAMBA"), ("req_pool_index", 1)
_CHUNK = "chunk_size"
_DEPTH_MAX = 6

Slots = tuple[torch.Tensor, torch.Tensor]
"""Slots that are copied, and slots that the copy is loaded into; both on the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copying:
    """The two methods of one pool, and the rows that they may copy."""

    held: HeldPool
    save: str
    load: str
    planes: tuple[Plane, ...]
    indices: Slots


class _BlockingCopies(TorchFunctionMode):
    """Has the host wait for the current stream in a copy to the host that is not ``non_blocking``.

    Where both memories are one, torch copies nothing then, and does not wait.
    """

    @override
    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        named = kwargs or {}
        if func is torch.Tensor.to and _is_blocking_copy(args[1:], named):
            torch.get_device_module().current_stream().synchronize()
        return func(*args, **named)


class HostCopies:
    """Copies slots of the pools of one stack to the host and back.

    ``slots`` by domain are the scenario's own: whole pages, or a state.
    """

    def __init__(
        self, *, device: ScriptDevice, planes: Sequence[Plane], slots: Mapping[str, Slots]
    ) -> None:
        self._device = device
        self._planes = planes
        self._slots = slots

    def of_pools(self, pools: Sequence[tuple[HeldPool, SlotDomain | None]]) -> Iterator[HostCopy]:
        """Yield a record of every pair of methods of each pool; the domain numbers its rows.

        A pool that reaches many planes comes before those that it forwards to. A method of another
        name that its copy calls is a part of that copy, and is tried with it.
        """
        parts: set[tuple[int, str]] = set()
        for held, domain in sorted(pools, key=lambda pair: -len(tuple(self._reachable(pair[0])))):
            for save, load in copying_methods(held):
                if (id(held.pool), save) in parts:
                    continue
                with _noting_calls(pools, save) as called:
                    record = self._copied(held, domain, save, load)
                if not record.reason:
                    parts |= called
                yield record

    def _copied(self, held: HeldPool, domain: SlotDomain | None, save: str, load: str) -> HostCopy:
        """Copy by one pair of methods of a pool, and return the record."""
        slots = None if domain is None else self._slots.get(domain.name)
        planes, reason = frozenset[str](), "the slots of the pool are not known"
        if slots is not None:
            copying = _Copying(
                held=held,
                save=save,
                load=load,
                planes=tuple(self._reachable(held)),
                indices=slots,
            )
            reason = self._failure(copying)
            planes = frozenset() if reason else frozenset(self._carried(copying))
        return HostCopy(
            step=STEP,
            holder=held.path,
            method=save,
            loads=load,
            streams=(stream_of(held, save), stream_of(held, load)),
            planes=tuple(sorted(planes)),
            reason=reason,
        )

    def _reachable(self, held: HeldPool) -> Iterator[Plane]:
        """Yield the planes whose memory a pool reaches."""
        own = [buffer.tensor.untyped_storage().data_ptr() for buffer in buffers_of(held.pool)]
        for plane in self._planes:
            storage = plane.layers[0].tensor.untyped_storage().data_ptr()
            if storage in own and plane.domain.name in self._slots:
                yield plane

    def _failure(self, copying: _Copying) -> str:
        """Copy and load; return the reason why that failed, else an empty text."""
        held, save, load = copying.held, copying.save, copying.load
        self._device.synchronize()
        self._write(copying, (_MOVED, _BEFORE))
        try:
            with (
                self._device.on_new_stream(stream_of(held, save)),
                _BlockingCopies(),
                _small_chunks(held.pool),
            ):
                saved = self._call(copying, save, 0)
            label = f"the host reads {held.path}.{save}"
            self._device.read_on_host(_tensors(saved), label=label)
            # The slots that were copied are handed out; the others' last request still writes.
            self._write(copying, (_AFTER, _BEFORE))
            with self._device.on_new_stream(stream_of(held, load)), _small_chunks(held.pool):
                self._call(copying, load, 1, saved)
            self._read(copying)
            self._device.synchronize()
        except Exception as error:  # noqa: BLE001 - recorded as the reason
            self._device.synchronize()
            return failure_text(error)
        return ""

    def _call(self, copying: _Copying, name: str, side: int, *first: object) -> Any:  # noqa: ANN401
        """Call a method with the slots of one side, and with those of other domains it takes."""
        method: Callable[..., Any] = getattr(copying.held.pool, name)
        taken = inspect.signature(method).parameters
        to_device = self._device.to_device
        named: dict[str, Any] = {}
        parameter, domain = _STATES
        if parameter in taken and domain in self._slots:
            named[parameter] = to_device(self._slots[domain][side])
        if _REQUEST[0] in taken:
            named[_REQUEST[0]] = _REQUEST[1]
        return method(*first, to_device(copying.indices[side]), **named)

    def _write(self, copying: _Copying, authors: tuple[str, str]) -> None:
        """Launch writes of both sides' rows on a stream that nothing is ordered before."""
        with self._device.on_new_stream("forward"):
            for plane in copying.planes:
                for author, slots in zip(authors, self._slots[plane.domain.name], strict=True):
                    for buffer in plane.layers:
                        content = row_content(buffer, slots, author=author)
                        launch_write(self._device, buffer, slots, content)

    def _read(self, copying: _Copying) -> None:
        """Launch reads of the loaded rows on a stream that nothing is ordered before."""
        with self._device.on_new_stream("forward"):
            for plane in copying.planes:
                for buffer in plane.layers:
                    launch_read(self._device, buffer, self._slots[plane.domain.name][1])

    def _carried(self, copying: _Copying) -> Iterator[str]:
        with self._device.pause_interception():
            for plane in copying.planes:
                source, target = self._slots[plane.domain.name]
                if all(
                    torch.equal(_rows(one, target), row_content(one, source, author=_MOVED))
                    for one in plane.layers
                ):
                    yield plane.name


_MOVED, _BEFORE, _AFTER = "copied", "before", "after"


def stream_of(held: HeldPool, method: str) -> str:
    """Return the stream on which a method of a pool is called."""
    return f"{COPY_PREFIX}{held.path}.{method}"


def copying_methods(held: HeldPool) -> Iterator[tuple[str, str]]:
    """Yield the pairs of public methods of a pool that copy slots to the host, and back."""
    methods = dict(held.methods())
    for load, method in methods.items():
        if not load.startswith(_LOAD):
            continue
        saves = (f"{prefix}{load.removeprefix(_LOAD)}" for prefix in _SAVES)
        save = next((name for name in saves if name in methods), None)
        if save is None:
            continue
        given, wanted = wanted_parameters(methods[save]), wanted_parameters(method)
        if len(given) == 1 and takes_slots(given[0]) and takes_slots(wanted[-1]):
            yield save, load


@contextmanager
def _noting_calls(
    pools: Sequence[tuple[HeldPool, SlotDomain | None]], copying: str
) -> Iterator[set[tuple[int, str]]]:
    """Note the calls of copying methods, of any pool, that are not named ``copying``."""
    called: set[tuple[int, str]] = set()

    def noting(pool: Any, name: str) -> Callable[..., Any]:  # noqa: ANN401 - any class of pools
        method = getattr(pool, name)

        def noted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            called.add((id(pool), name))
            return method(*arguments, **named)

        return noted

    with ExitStack() as replaced:
        for held, _ in pools:
            for name, _ in copying_methods(held):
                if name != copying:
                    replaced.enter_context(patch.object(held.pool, name, noting(held.pool, name)))
        yield called


@contextmanager
def _small_chunks(pool: Any) -> Iterator[None]:  # noqa: ANN401 - a pool of the release
    """Have a pool, and those within it, copy parts of a page: their chunks have so few slots."""
    with ExitStack() as replaced:
        for one in (pool, *vars(pool).values()):
            own = getattr(one, "__dict__", {})
            page = own.get("page_size")
            for name in [name for name in own if name.endswith(_CHUNK)]:
                if isinstance(page, int) and page > 1 and isinstance(own[name], int):
                    replaced.enter_context(patch.object(one, name, page // 2))
        yield


def _is_blocking_copy(arguments: Sequence[Any], named: Mapping[str, Any]) -> bool:
    target = named.get("device", arguments[0] if arguments else None)
    is_host = isinstance(target, str | torch.device) and torch.device(target).type == "cpu"
    flags = [one for one in arguments if isinstance(one, bool)]
    return is_host and not named.get("non_blocking", flags[0] if flags else False)


def _tensors(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:  # noqa: ANN401
    """Yield the tensors in nested containers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple) and depth < _DEPTH_MAX:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item, depth + 1)


def _rows(buffer: RowBuffer, slots: torch.Tensor) -> torch.Tensor:
    rows = buffer.rows_of(slots).to(buffer.tensor.device)
    return row_bytes(buffer.tensor[rows]).cpu()
