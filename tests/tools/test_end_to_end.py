"""The command line as users run it: a copy of the checkout, real scenarios, one fault."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from traces.targets.native.scenarios import registry

ROOT = Path(__file__).resolve().parents[2]
FORWARDED = "override_kv_cache_dim=override_kv_cache_dim"
SCENARIO = next(
    name
    for name, scenario in registry().items()
    if scenario.builder == "build_shared_anchor_stack" and "fp8" in scenario.model
)


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


def goldentrace(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    hidden = ("CI", "PYTHONPATH", "GOLDENTRACE_BASE_REF", "GOLDENTRACE_HANDED_OVER")
    environment = {key: text for key, text in os.environ.items() if key not in hidden}
    return subprocess.run(
        [sys.executable, "-m", "tools.cli", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Kept runs of the user would stand for some of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLDENTRACE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A committed copy of the checkout without goldens."""
    root = tmp_path_factory.mktemp("copy")
    hidden = shutil.ignore_patterns("golden", "__pycache__")
    for package in ("assembler", "traces", "tools"):
        shutil.copytree(ROOT / package, root / package, ignore=hidden)
    for file in ("pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / file, root / file)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    return root


def drop_keyword(root: Path) -> str:
    """Give None instead of the width in the one builder that the scenario runs."""
    path = root / "assembler" / "stacks" / "shared_anchor.py"
    text = path.read_text()
    assert text.count(FORWARDED) == 1
    path.write_text(text.replace(FORWARDED, "override_kv_cache_dim=None"))
    return path.relative_to(root).as_posix()


@pytest.mark.slow
def test_dropped_width_is_found_and_named_by_golden_and_by_revision(copy):
    """Scenario: write the golden, lose the width of the packed row, ask both kinds of base."""
    written = goldentrace(copy, "regenerate", SCENARIO, "--reason", "first")
    assert written.returncode == 0, written.stderr
    assert written.stdout.endswith(f"create  {SCENARIO}\n1 created\n")

    unchanged = goldentrace(copy, "gate", SCENARIO)
    assert unchanged.returncode == 0, unchanged.stdout + unchanged.stderr
    assert "1 scenario played, 1 unchanged, 0 changed" in unchanged.stdout

    file = drop_keyword(copy)
    for base in ("golden", "HEAD"):
        found = goldentrace(copy, "gate", SCENARIO, "--base", base, "--format", "json")
        assert found.returncode == 1, found.stderr
        verdict = json.loads(found.stdout)
        first = verdict["causes"][0]
        assert first["parameter"] == "override_kv_cache_dim"
        assert first["builder"] == "build_shared_anchor_stack"
        assert first["location"]["file"] == file
        assert first["before"] == 656
        assert verdict["problems"] == []


def test_every_builder_of_the_repository_is_covered():
    listed = goldentrace(ROOT, "list", "--json")
    assert listed.returncode == 0, listed.stderr
    listing = json.loads(listed.stdout)
    assert listing["uncovered"] == []
    assert {"build_kv_only_stack", "build_shared_anchor_stack"} <= {
        builder["name"] for builder in listing["builders"]
    }
    assert [scenario["name"] for scenario in listing["scenarios"]] == list(registry())
