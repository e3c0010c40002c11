"""What a pool asks for when it is full, as the script finds out."""

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from traces.targets.sglang import callbacks
from traces.targets.sglang.callbacks import EvictionLog, run_callbacks


class Component(enum.IntEnum):
    SWA = 1
    MAMBA = 2


class PoolName(enum.Enum):
    SWA = "swa"


@dataclass
class EvictParams:
    num_tokens: int = 0
    swa_num_tokens: int = 0


class Tree:
    """A tree in the manner of a release."""

    def __init__(self) -> None:
        self.evicted: list[object] = []

    @property
    def root_node(self) -> object:
        raise NotImplementedError("not yet ported")

    def evict(self, params: EvictParams) -> None:
        self.evicted.append(params)

    def evict_host(self, num: int, component: Component = Component.MAMBA) -> None:
        self.evicted.append((num, component))


Found = list[tuple[str, str, list[str]]]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    calls: Found = []
    monkeypatch.setattr(callbacks, "callback", lambda *call: calls.append(call))
    return calls


def group_of(
    host: Callable[[int], object] | None, device: Callable[[int], object] | None
) -> SimpleNamespace:
    entry = SimpleNamespace(name=PoolName.SWA, host_evict_fn=host, device_evict_fn=device)
    return SimpleNamespace(entries=[entry])


def test_requests_to_a_tree_are_told_and_not_done(found: Found) -> None:
    tree = Tree()
    group = group_of(
        lambda n: tree.evict_host(n, Component.SWA),
        lambda n: tree.evict(EvictParams(swa_num_tokens=n)),
    )
    run_callbacks(group, tree, EvictionLog())
    assert found == [
        ("SWA", "device_evict_fn", ["evict(swa_num_tokens=+)"]),
        ("SWA", "host_evict_fn", ["evict_host(+, SWA)"]),
    ]
    assert tree.evicted == []
    tree.evict_host(3)
    assert tree.evicted == [(3, Component.MAMBA)]


def test_a_default_given_explicitly_is_told_like_one_left_out(found: Found) -> None:
    tree = Tree()
    given = group_of(lambda n: tree.evict_host(n, component=Component.MAMBA), None)
    left_out = group_of(lambda n: tree.evict_host(num=n), None)
    run_callbacks(given, tree, EvictionLog())
    run_callbacks(left_out, tree, EvictionLog())
    assert found[1] == found[3] == ("SWA", "host_evict_fn", ["evict_host(+)"])
    assert found[0] == ("SWA", "device_evict_fn", [])


def test_a_method_handed_over_is_told_like_one_called(found: Found) -> None:
    tree = Tree()
    run_callbacks(group_of(tree.evict_host, None), tree, EvictionLog())
    assert found[1] == ("SWA", "host_evict_fn", ["evict_host(+)"])
    assert tree.evicted == []


def test_functions_that_the_script_hands_in_are_told_by_name(found: Found) -> None:
    evictions = EvictionLog()
    host, device = (
        evictions.recording_function("host_swa_evict_fn"),
        evictions.recording_function("device_swa_evict_fn"),
    )
    run_callbacks(group_of(device, host), None, evictions)
    assert found == [
        ("SWA", "device_evict_fn", ["host_swa_evict_fn(+)"]),
        ("SWA", "host_evict_fn", ["device_swa_evict_fn(+)"]),
    ]


def test_what_a_callback_raises_is_told(found: Found) -> None:
    tree = Tree()
    wrong = group_of(lambda n: tree.evict_host(n, backup_only=True), lambda n: tree.missing + n)
    run_callbacks(wrong, tree, EvictionLog())
    assert [asks for _, _, asks in found] == [["raises AttributeError"], ["raises TypeError"]]


def test_a_group_without_entries_has_no_callbacks(found: Found) -> None:
    run_callbacks(SimpleNamespace(), Tree(), EvictionLog())
    assert found == []


def test_mappers_are_told_by_what_they_map(found: Found) -> None:
    entry = SimpleNamespace(name=PoolName.SWA, layer_mapper={1: 0, 3: 1}.get, evict_fn=None)
    broken = SimpleNamespace(name=PoolName.SWA, layer_mapper=[0, 1].__getitem__)
    run_callbacks(SimpleNamespace(entries=[entry, broken]), None, EvictionLog())
    assert found == [
        ("SWA", "evict_fn", []),
        ("SWA", "layer_mapper", ["1 -> 0", "3 -> 1"]),
        ("SWA", "layer_mapper", ["raises IndexError"]),
    ]


def test_a_function_is_told_from_the_line_on_which_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = []

    def called(*_told: object) -> None:
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        places.append((frame.f_back.f_code.co_filename, frame.f_back.f_lineno))

    monkeypatch.setattr(callbacks, "callback", called)
    tree = Tree()
    run_callbacks(group_of(tree.evict_host, None), tree, EvictionLog())
    own, begins = callbacks.__file__, Tree.evict_host.__code__.co_firstlineno
    assert places[1] == (__file__, begins)
    assert places[0][0] == own
