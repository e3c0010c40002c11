"""Variants of pools: found by arguments and by classes, made as on the platform that has them."""

import os
import sys
from enum import Enum
from types import ModuleType, SimpleNamespace

import pytest

from traces.targets.sglang import pool_variants as variants
from traces.targets.sglang.source_facts import pool_bases


class Layout(Enum):
    OLD = "old"
    NEW = "new"


class Pool:
    def __init__(self, size, layout=Layout.OLD, rows=()):
        del size, layout, rows


class Allocator:
    def alloc(self): ...


@pytest.fixture
def release(monkeypatch):
    found = SimpleNamespace(
        find=lambda *names: Pool if "Pool" in names else None,
        device_pools=lambda: (Pool,),
        allocators=lambda: (Allocator,),
    )
    monkeypatch.setattr(variants, "installed_release", lambda: found)
    monkeypatch.setattr(variants, "all_names_of", lambda name: (name,))
    monkeypatch.setattr(variants, "_ascend_files", lambda: iter(()))
    variants.pool_variants.cache_clear()
    yield found
    variants.pool_variants.cache_clear()


def test_an_argument_of_an_enumeration_takes_its_other_members(release):
    found = variants.pool_variants("Pool")
    assert {name: dict(one.arguments) for name, one in found.items()} == {
        "layout=new": {"layout": Layout.NEW}
    }


def test_a_release_without_the_pool_has_no_variants(release):
    assert variants.pool_variants("Other") == {}


def test_classes_for_ascend_are_those_that_inherit_from_the_pool_and_an_allocator(
    release, monkeypatch, tmp_path
):
    (tmp_path / "pools.py").write_text(
        "class Far(Pool): ...  # TokenToKVPool\nclass Apart(Other): ...\n"
    )
    (tmp_path / "slots.py").write_text("class Slots(memory.Allocator): ...  # of a TokenToKVPool\n")
    files = [(f"far.{name}", tmp_path / f"{name}.py") for name in ("pools", "slots")]
    far = type("Far", (Pool,), {"__module__": "far.pools"})
    slots = type("Slots", (Allocator,), {"__module__": "far.slots"})
    for name, value in (("pools", {"Far": far}), ("slots", {"Slots": slots})):
        module = ModuleType(f"far.{name}")
        vars(module).update(value)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(variants, "_ascend_files", lambda: iter(files))
    found = variants.pool_variants("Pool")["ascend"]
    assert (found.pool_class, found.allocator_class) == (far, slots)


def test_modules_for_ascend_can_be_imported_in_its_surroundings_alone():
    with variants.PoolVariant(platform="ascend").surroundings():
        assert "torch_npu" in sys.modules
    assert "torch_npu" not in sys.modules


def test_what_pools_ask_on_rocm_is_answered_while_they_are_made(release, monkeypatch):
    gate = ModuleType("gate")
    forgotten = []

    def remembers():
        return gate.is_hip()

    remembers.cache_clear = lambda: forgotten.append(gate.is_hip())
    vars(gate).update(is_hip=lambda: False, is_gfx95_supported=lambda: False, remembers=remembers)
    monkeypatch.setitem(sys.modules, variants._GATE, gate)
    monkeypatch.setattr(sys.modules[__name__], "_is_hip", False, raising=False)
    names = set(variants.pool_variants("Pool"))
    assert names == {"layout=new", "rocm.fp4_index", "rocm.one_buffer", "rocm.one_buffer_fp8"}
    with variants.pool_variants("Pool")["rocm.one_buffer_fp8"].surroundings():
        assert gate.is_hip()
        assert gate.is_gfx95_supported()
        assert sys.modules[__name__]._is_hip
        assert os.environ["SGLANG_DSV4_UNIFIED_KV_FP8"] == "1"
    assert not gate.is_hip()
    assert not sys.modules[__name__]._is_hip
    assert "SGLANG_DSV4_UNIFIED_KV_FP8" not in os.environ
    assert forgotten == [True, False]


def test_bases_of_classes_are_their_last_names():
    text = "import memory\nclass A(memory.TokenToKVPool, Mixin): ...\nclass B: ...\n"
    assert pool_bases(text) == (("A", ("TokenToKVPool", "Mixin")), ("B", ()))
    assert pool_bases("class B(Pool): ...\n") == ()
