"""A stranger's package, written and imported anew for each test."""

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from tests.traces.recording.fresh_package import CACHE, POOLS


@pytest.fixture
def fresh(tmp_path, monkeypatch) -> Iterator[Callable[..., ModuleType]]:
    """Write the package, with some text of its cache replaced, and import it anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "fresh"]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def load(*replacements: tuple[str, str], extra: str = "") -> ModuleType:
        forget()
        folder = tmp_path / "fresh"
        folder.mkdir(exist_ok=True)
        text = CACHE + textwrap.dedent(extra)
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (folder / "__init__.py").write_text("")
        (folder / "pools.py").write_text(POOLS)
        (folder / "cache.py").write_text(text)
        return importlib.import_module("fresh.cache")

    yield load
    forget()
