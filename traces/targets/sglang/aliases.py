"""The alias table of sglang, read from ``aliases.toml``. Needs neither torch nor the package."""

import tomllib
from functools import cache
from pathlib import Path

from traces.diff.aliases import Aliases


@cache
def aliases() -> Aliases:
    """Return what sglang renamed from release to release."""
    text = (Path(__file__).parent / "data" / "aliases.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    return Aliases(
        callees=table["callees"], parameters=table["parameters"], buffers=table["buffers"]
    )
