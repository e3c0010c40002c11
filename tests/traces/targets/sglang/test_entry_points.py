"""Releases without an entry point refuse its scenarios before anything is built."""

import re
from types import SimpleNamespace

import pytest

from traces.targets.sglang import entry_points
from traces.targets.sglang.errors import UnsupportedByRelease

UNIFIED_INIT = "UnifiedRadixCache.init_hicache"


class Tree:
    """A tree of a release before it took the start of its host tier."""


class StartedTree(Tree):
    def init_hicache(self):
        raise AssertionError("nothing is called")


@pytest.fixture
def release(monkeypatch):
    """Names of functions and classes that the release has."""
    known = {}

    def finder(kind):
        def find(name):
            if name not in known:
                raise UnsupportedByRelease(f"no {kind} {name}")
            return known[name]

        return find

    monkeypatch.setattr(entry_points, "find_builder", finder("function"))
    monkeypatch.setattr(entry_points, "find_class", finder("class"))
    return known


def scenario(builder, model="llama3_8b"):
    return SimpleNamespace(builder=builder, model=model)


@pytest.mark.parametrize(
    ("builder", "reason"),
    [
        ("build_kv_only_stack", "no function build_kv_only_stack"),
        ("HiRadixCache", "no class HiRadixCache"),
        (UNIFIED_INIT, "no class UnifiedRadixCache"),
    ],
)
@pytest.mark.usefixtures("release")
def test_a_missing_entry_point_is_named(builder, reason):
    with pytest.raises(UnsupportedByRelease, match=re.escape(reason)):
        entry_points.require_entry_point(scenario(builder))


@pytest.mark.parametrize("builder", ["build_kv_only_stack", "HiRadixCache"])
def test_an_entry_point_that_is_there_is_accepted(release, builder):
    release[builder] = object()

    entry_points.require_entry_point(scenario(builder))


def test_a_tree_must_have_the_start_of_its_host_tier(release):
    release["UnifiedRadixCache"] = Tree
    with pytest.raises(UnsupportedByRelease, match="UnifiedRadixCache has no init_hicache"):
        entry_points.require_entry_point(scenario(UNIFIED_INIT))

    release["UnifiedRadixCache"] = StartedTree
    entry_points.require_entry_point(scenario(UNIFIED_INIT))


def test_what_every_stack_of_a_family_needs_is_asked_first(release):
    release["build_kv_only_stack"] = object()

    with pytest.raises(UnsupportedByRelease, match="no function build_minimax"):
        entry_points.require_entry_point(scenario("build_kv_only_stack", model="minimax_m3"))
