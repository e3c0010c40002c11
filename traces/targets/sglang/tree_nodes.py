"""Nodes of a release's tree: their tokens, their locks, and the slots that they own.

Releases keep them in different fields: in the node, or in a record of each component. What a field
holds follows from its type and its name: a tensor holds slots, a number whose name has ``lock`` or
``ref`` counts locks, and ``host`` in a name says on which side.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch

from traces.schema.slot_ranges import slot_ranges
from traces.targets.sglang.discovery import installed_release

FULL = "FULL"
Side: TypeAlias = Literal["device", "host"]

_HOST = "host"
_LOCKS = re.compile("(^|_)(lock|ref)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeNodeState:
    """One node, without the root's children."""

    name: str  # its tokens from the root, as ranges
    locks: Counter[tuple[str, Side]]  # by component and side
    slots: Counter[tuple[str, Side]]  # numbers of slots, likewise
    priority: int  # 0 where the release gives nodes none


def tree_nodes(cache: Any, *, components: Collection[str]) -> list[TreeNodeState] | None:  # noqa: ANN401
    """Return the nodes of a release's tree below its root, sorted by their tokens.

    ``components`` are the parts of a node beside the full one: ``SWA``, ``MAMBA``. None where the
    release keeps its nodes outside of Python and refuses to show them.
    """
    try:
        root = cache.root_node
    except NotImplementedError:
        return None
    found = list(_below(root, (), components))
    return sorted(found, key=lambda node: node.name)


def _below(
    node: Any,  # noqa: ANN401 - a node of the release
    before: tuple[int, ...],
    components: Collection[str],
) -> Iterator[TreeNodeState]:
    for child in list(node.children.values()):
        tokens = (*before, *_tokens(child.key))
        yield _state(child, tokens, components)
        yield from _below(child, tokens, components)


def _tokens(key: Any) -> list[int]:  # noqa: ANN401 - a key of the release
    return [int(token) for token in key.token_ids[: len(key)]]


def _state(
    node: Any,  # noqa: ANN401 - a node of the release
    tokens: tuple[int, ...],
    components: Collection[str],
) -> TreeNodeState:
    locks: Counter[tuple[str, Side]] = Counter()
    slots: Counter[tuple[str, Side]] = Counter()
    for component, name, value in _fields(node, components):
        side: Side = "host" if _HOST in name else "device"
        if isinstance(value, torch.Tensor):
            slots[component, side] += value.numel()
        elif type(value) is int and _LOCKS.search(name):
            locks[component, side] += value
    return TreeNodeState(
        name=slot_ranges(torch.tensor(tokens)),
        locks=locks,
        slots=slots,
        priority=getattr(node, "priority", 0),
    )


def _fields(
    node: Any,  # noqa: ANN401 - a node of the release
    components: Collection[str],
) -> Iterator[tuple[str, str, Any]]:
    """Yield component, name and value of the fields of a node, and of its components' records."""
    parts = getattr(node, "component_data", None)
    for name, value in _attributes(node):
        yield next((one for one in components if one.lower() in name), FULL), name, value
    if parts is None:
        return
    items = parts.items() if isinstance(parts, dict) else enumerate(parts)
    for key, part in items:
        for name, value in _attributes(part):
            yield _component_name(key), name, value


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any object
    """Yield the attributes of an object, those in slots included."""
    names = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
    yield from getattr(value, "__dict__", {}).items()
    for name in names:
        if hasattr(value, name):
            yield name, getattr(value, name)


def _component_name(key: Any) -> str:  # noqa: ANN401 - a member of an enumeration, or its number
    kinds = installed_release().find("ComponentType")
    named = key if not isinstance(key, int) or kinds is None else kinds(key)
    return str(getattr(named, "name", named)).upper()
