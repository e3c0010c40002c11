"""What a release has is found by what it is: a made-up release in two files and a folder."""

import sys
import textwrap

import pytest

from traces.targets.sglang.discovery import discover_release

FILES = {
    "srt/managers/cache_controller.py": """
        class HiCacheController:
            def write(self): ...

        class Unrelated: ...
    """,
    "srt/mem_cache/memory_pool.py": """
        class KVCache:
            def get_key_buffer(self, layer_id): ...
            def get_size(self): ...

        class NewKindOfPool(KVCache):
            def get_rows(self, layer_id, page_indices): ...

        class StatePool: ...
        class Allocator:
            def alloc(self, need): ...
            def free(self, slots): ...
    """,
    "srt/mem_cache/pool_host/base.py": """
        class NewHost:
            def alloc(self, need): ...
            def free(self, slots): ...

        class HostPoolGroup(NewHost): ...
    """,
    "srt/mem_cache/hybrid/assembler.py": """
        from sglang.srt.managers.cache_controller import HiCacheController

        class HybridController(HiCacheController): ...

        class Strategy:
            def matches(self): ...
            def build(self): ...

        class _RingStrategy(Strategy):
            def matches(self): ...
            def build(self): ...

        def build_ring_stack(): ...
        def build_pool_entry(): ...
        def attach_ring_to_tree(): ...
        def helper(): ...
    """,
    "srt/mem_cache/storage/cloud.py": "raise RuntimeError('never imported')",
    "srt/mem_cache/native.py": """
        from torch.utils.cpp_extension import load

        load(name="x", sources=["x.cpp"])
    """,
    "srt/mem_cache/broken.py": "import a_package_that_nobody_has",
}


@pytest.fixture
def release(tmp_path, monkeypatch):
    for place in ("", "srt", "srt/managers", "srt/mem_cache"):
        (tmp_path / "sglang" / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / "sglang" / place / "__init__.py").write_text("")
    for name, text in FILES.items():
        file = tmp_path / "sglang" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    # A fork may have folders that are links.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.py").write_text("def build_linked_stack():\n    pass\n")
    (tmp_path / "sglang" / "srt/mem_cache/linked").symlink_to(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield discover_release()
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "sglang":
            del sys.modules[name]


def names(classes):
    return [cls.__name__ for cls in classes]


def test_parts_are_told_apart_by_what_they_are(release):
    assert names(release.host_pools()) == ["NewHost"]
    assert names(release.device_pools()) == ["KVCache", "NewKindOfPool", "StatePool"]
    assert names(release.controllers()) == ["HybridController", "HiCacheController"]
    assert names(release.strategies()) == ["_RingStrategy"]
    assert names(release.allocators()) == ["Allocator", "NewHost"]


def test_folder_without_init_is_searched_and_its_builders_found(release):
    assert sorted(release.builder_functions()) == [
        "attach_ring_to_tree",
        "build_linked_stack",
        "build_pool_entry",
        "build_ring_stack",
    ]
    assert release.stack_builders() == (
        "_RingStrategy",
        "attach_ring_to_tree",
        "build_linked_stack",
        "build_ring_stack",
    )


def test_module_that_cannot_be_imported_is_named_with_the_reason(release):
    assert release.missing["sglang.srt.mem_cache.broken"] == (
        "ModuleNotFoundError: No module named 'a_package_that_nobody_has'"
    )


def test_nothing_is_compiled_to_look_at_a_release(release):
    assert release.missing["sglang.srt.mem_cache.native"] == (
        "ImportError: compiles native code when it is imported"
    )


def test_storage_backends_are_not_even_imported(release):
    assert not [name for name in release.missing if "cloud" in name]
    assert "sglang.srt.mem_cache.storage.cloud" not in sys.modules


def test_class_is_found_by_the_first_of_its_names(release):
    assert release.find("RingPool", "StatePool").__name__ == "StatePool"
    assert release.find("RingPool") is None
