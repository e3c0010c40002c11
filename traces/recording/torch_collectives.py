"""Probes of the operations of process groups in ``torch.distributed``, and of waits for them."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any, TypeAlias
from unittest.mock import patch

import torch
import torch.distributed

from traces.recording.binding import signature_of
from traces.recording.probes import CollectiveObservation, EventProbe, GroupNaming, Values

NameGroup: TypeAlias = Callable[[object | None], GroupNaming]
"""Names a process group; None is the default group."""

_GROUP = "group"
# A function of a group that has none of these asks for its rank or size, or ends it.
_DATA_PARAMETERS = frozenset(
    (*("async_op", "tag", "obj", "object_list", "wait_all_ranks"), "scatter_object_output_list")
)
# A peer is named by its global rank, or by its place in the group.
_PEER_PARAMETERS = ("src", "dst")
_REDUCTION = "op"


class PendingOperation:
    """An operation that goes on in the background until it is waited for."""

    def __init__(self, work: torch.distributed.Work, name: str, values: Values) -> None:
        self._work = work
        self.name = name
        self.values = values

    def wait(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - those of torch's own
        """Wait for the end of the operation, as torch's own object does."""
        return self._work.wait(*arguments, **named)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - an attribute of torch's own object
        return getattr(self._work, name)


def collective_probes(name_group: NameGroup) -> list[EventProbe]:
    """Return a probe for every function that communicates in a process group, and for waits.

    They are found by their signatures. Of an operation that is made of others the outermost counts.
    Waits are seen where :func:`pending_operations` is in force.
    """

    def waited(values: Values, _: object) -> CollectiveObservation:
        pending: PendingOperation = values["self"]
        return _observer(f"{pending.name} waited for", name_group)(pending.values, None)

    waits: object = PendingOperation.wait
    assert isinstance(waits, FunctionType)
    observers = {
        function: _observer(name, name_group) for name, function in _functions_of_groups().items()
    }
    return [
        EventProbe(function=function, family="collective", nesting="outermost", observe=observe)
        for function, observe in {**observers, waits: waited}.items()
    ]


@contextmanager
def pending_operations() -> Iterator[None]:
    """Have functions that return before their operation has ended return an object that is watched.

    Only calls through the names of ``torch.distributed`` do so.
    """
    with ExitStack() as replaced:
        for name, function in _functions_of_groups().items():
            replaced.enter_context(
                patch.object(torch.distributed, name, _returning_pending(name, function))
            )
        yield


@functools.cache
def _returning_pending(name: str, function: FunctionType) -> Callable[..., object]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> object:  # noqa: ANN401
        result = function(*arguments, **named)
        if not isinstance(result, torch.distributed.Work):
            return result
        bound = signature_of(function).bind(*arguments, **named)
        bound.apply_defaults()
        return PendingOperation(result, name, bound.arguments)

    return call


@functools.cache
def _functions_of_groups() -> dict[str, FunctionType]:
    """Return torch's own functions that communicate in a process group, by name.

    They are found once: later the names may stand for what :func:`pending_operations` puts there.
    """
    return {
        name: function
        for name, function in vars(torch.distributed).items()
        # Not isinstance: deprecated names of torch warn when they are asked for their class.
        if type(function) is FunctionType and not name.startswith("_")
        if _communicates(function)
    }


def _communicates(function: FunctionType) -> bool:
    names = inspect.signature(function).parameters.keys()
    return _GROUP in names and not _DATA_PARAMETERS.isdisjoint(names)


def _observer(
    name: str, name_group: NameGroup
) -> Callable[[Values, object], CollectiveObservation]:
    def observe(values: Values, _: object) -> CollectiveObservation:
        tensor = next(filter(_is_tensor, map(_first_item, values.values())), None)
        group = name_group(values[_GROUP])
        return CollectiveObservation(
            operation=name,
            reduction=_reduction(values.get(_REDUCTION)),
            group=group,
            peer=_peer(values, group),
            dtype="" if tensor is None else str(tensor.dtype).removeprefix("torch."),
            shape=() if tensor is None else tuple(tensor.shape),
        )

    return observe


def _peer(values: Values, group: GroupNaming) -> int | None:
    for name in _PEER_PARAMETERS:
        place = values.get(f"group_{name}")
        if place is not None:
            return group.ranks[place]
        if values.get(name) is not None:
            return int(values[name])
    return None


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _first_item(value: Any) -> Any:  # noqa: ANN401 - any argument
    """Return the first item of a list: operations take lists of equal tensors."""
    return value[0] if isinstance(value, list | tuple) and value else value


def _reduction(given: object) -> str:
    """Return the name of a reduction; torch wraps it in an object of its own for some uses."""
    return "" if given is None else str(getattr(given, "name", given)).rpartition(".")[2]
