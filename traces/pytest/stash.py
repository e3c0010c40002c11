"""Stash keys that the plugin and the fixture ``golden_trace`` share. Imports nothing but pytest."""

from pathlib import Path
from typing import Any

import pytest

FIXTURE = "golden_trace"

used_goldens = pytest.StashKey[dict[Path, str]]()
"""On the config: golden files that tests of this session compared with, and the test of each."""

results_of_test = pytest.StashKey[list[Any]]()
"""On the item: the ``AssertionResult`` objects that syrupy will report."""
