"""What tests of a released package share: their marks, copies of a release, and its gate.

They need environments of releases, which are downloaded once (`make sglang`), so they run only when
they are asked for by GOLDENTRACE_SGLANG=1.
"""

import json
import os
import shutil
from itertools import zip_longest
from pathlib import Path

import pytest

from tools.cli import main
from tools.session import open_session
from tools.sides.environments.cache import environment_for

NEEDS_RELEASES = [
    pytest.mark.sglang,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        "GOLDENTRACE_SGLANG" not in os.environ, reason="asked for by GOLDENTRACE_SGLANG=1"
    ),
]


def gate(capsys, base, head, *scenarios):
    """Gate two sides of sglang, and return the exit code and the verdict, which has no problem."""
    arguments = ["gate", "--target", "sglang", "--base", base, "--head", head, "--format", "json"]
    code = main([*arguments, *scenarios])
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["problems"] == [], verdict["problems"]
    return code, verdict


def copy_release(version: str, folder: Path) -> Path:
    """Return a copy of a release's tree: the cache itself must not be touched."""
    tree = folder / version
    if not tree.exists():
        # Whole: without a file of the base every scenario would have to be run.
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(environment_for(version).root, tree, ignore=ignored)
    return tree


def some_reaching(head: str, *, most: int) -> list[str]:
    """Return scenarios that reach what a head changes, the longest of every builder first.

    They are known from the kept runs of an earlier tree; without any the list is empty.
    """
    session = open_session(Path.cwd(), target="sglang", limit_seconds=120)
    scenarios = list(session.scenarios.values())
    with session.open_kept_side(session.parse_side(head), device="auto") as opened:
        assert opened.keeper is not None
        found = opened.keeper.find(scenarios)
    by_builder: dict[str, list[str]] = {}
    for one in sorted(scenarios, key=lambda one: -found.seconds.get(one.name, 0.0)):
        if one.name not in found.by_scenario and found.seconds.get(one.name):
            by_builder.setdefault(one.builder, []).append(one.name)
    in_turns = [name for row in zip_longest(*by_builder.values()) for name in row if name]
    return in_turns[:most]
