"""docs/watch.md, done as it says: files written, commands run, output as shown."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "watch.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)(?: title=\"(.*?)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command: str, *, cwd: Path) -> str:
    """Run a command of the page with this interpreter; pytest fails where the page says so."""
    words = re.sub(r"^(pytest|python)\b", lambda found: PROGRAMS[found.group()], command)
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"PYTHONPATH": f"{ROOT}:{cwd}", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    done = subprocess.run(
        words, shell=True, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


PROGRAMS = {
    "pytest": f"{sys.executable} -m pytest -p no:cacheprovider",
    "python": sys.executable,
}


def install(folder: Path) -> None:
    """Do what pip does with the entry points of a project."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    metadata = folder / f"{project['name']}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"[{group}]" for group in project["entry-points"]]
    for points in project["entry-points"].values():
        lines += [f"{name} = {value}" for name, value in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


def test_page_works_from_an_empty_folder(tmp_path):
    for kind, title, text in BLOCK.findall(PAGE):
        if title:
            (tmp_path / title).write_text(text)
            if title == "pyproject.toml":
                install(tmp_path)
            continue
        assert kind == "console"
        output = ""
        for line in text.splitlines():
            if line.startswith("$ "):
                output = run(line.removeprefix("$ "), cwd=tmp_path)
            else:
                assert line in output


@pytest.mark.parametrize(
    "part", [PAGE.partition("## What")[0], PAGE.rpartition("## An adapter")[2]]
)
def test_each_example_is_short(part):
    assert sum(text.count("\n") for _, title, text in BLOCK.findall(part) if title) <= 60
