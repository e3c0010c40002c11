"""A copy of the checkout that a test may break, and the command line run in it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("assembler", "traces", "tools", "pyproject.toml", "CHANGELOG.md")


@dataclass(frozen=True)
class Checkout:
    """A checkout of its own; ``goldentrace`` judges it because it stands in it."""

    root: Path

    def read(self, file):
        return (self.root / file).read_text(encoding="utf-8")

    def write(self, file, text):
        (self.root / file).write_text(text, encoding="utf-8")

    def replace(self, file, old, new):
        """Edit a file; the old text must be there exactly once."""
        text = self.read(file)
        assert text.count(old) == 1, f"{file}: {text.count(old)} times {old!r}"
        self.write(file, text.replace(old, new))

    def run(self, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(self.root), "NO_COLOR": "1"}
        environment.pop("CI", None)
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def gate(self, *scenarios):
        """Return exit code and verdict of the gate on some scenarios, on the eager device."""
        command = ("-m", "tools.cli", "gate", "--device", "cpu", "--format", "json")
        done = self.run(*command, *scenarios)
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def checkout(tmp_path):
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    return Checkout(tmp_path)


@pytest.fixture
def outputs_of():
    """Runs a program from the root of the repository under two hash seeds; each output once."""

    def outputs(program):
        return {
            subprocess.run(
                [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"],
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                check=True,
                text=True,
            ).stdout
            for seed in ("1", "2")
        }

    return outputs
