"""The streams that a server hands to a controller, as the assignments of its source name them."""

import sys
from types import ModuleType

import pytest

from traces.targets.sglang import fences

SERVER = """
class Scheduler:
    def init(self):
        cache_controller = self.tree_cache.cache_controller
        cache_controller.load_fence_stream = (
            self.tp_worker.model_runner.forward_stream
        )
        self.tree_cache.cache_controller.write_fence_stream = self.forward_stream
        self.forward_stream = make_stream()
        cache_controller.size = 3
"""


@pytest.fixture
def managers(tmp_path, monkeypatch):
    module = ModuleType("sglang.srt.managers")
    module.__path__ = [str(tmp_path)]
    for name in ("sglang", "sglang.srt", "sglang.srt.managers"):
        monkeypatch.setitem(sys.modules, name, module)
    return tmp_path


def test_attributes_that_get_the_forward_stream_are_found(managers):
    (managers / "scheduler.py").write_text(SERVER, encoding="utf-8")

    assert fences.stream_attributes() == ("load_fence_stream", "write_fence_stream")


def test_a_server_without_fences_has_none(managers):
    (managers / "scheduler.py").write_text("class Scheduler: pass\n", encoding="utf-8")

    assert fences.stream_attributes() == ()
