"""The pages of the documentation are right: their commands run, print what they say, or parse."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from tests.docs.pages import DOCS, ROOT, blocks, listed_commands, read_page, run_page, steps
from tools.cli import app

FROM_AN_EMPTY_FOLDER = ("guard.md", "howto/add_a_target.md")
IN_A_CHECKOUT = (
    "tutorial.md",
    "howto/accept_a_change.md",
    "howto/pool_family.md",
    "howto/read_a_report.md",
)
WITH_A_RELEASE = ("howto/gate_a_fork.md",)
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
    if "generated" not in path.parts
}
COPIED = ("assembler", "traces", "tools", "tests/new_family", "pyproject.toml", "CHANGELOG.md")


@pytest.fixture
def repository(tmp_path):
    """Return a copy of this checkout, committed, that a page may change."""
    root = tmp_path / "checkout"
    for name in COPIED:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy(source, target)
    (root / ".gitignore").write_text("__pycache__/\n.goldentrace/\n")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for arguments in (("init", "-q"), ("add", "-A"), (*author, "commit", "-q", "-m", "start")):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    return root


@pytest.mark.parametrize("name", FROM_AN_EMPTY_FOLDER)
def test_page_works_from_an_empty_folder(name, tmp_path):
    assert run_page(read_page(name), folder=tmp_path, source=ROOT, columns=100) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", IN_A_CHECKOUT)
def test_page_works_in_a_checkout(name, repository, tmp_path):
    cache = tmp_path / "cache"
    assert run_page(read_page(name), folder=repository, source=repository, cache=cache) == []


@pytest.mark.sglang
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    "GOLDENTRACE_SGLANG" not in os.environ, reason="asked for by GOLDENTRACE_SGLANG=1"
)
@pytest.mark.parametrize("name", WITH_A_RELEASE)
def test_page_works_with_a_release(name, tmp_path):
    assert run_page(read_page(name), folder=tmp_path, source=ROOT) == []


def test_every_page_with_a_prompt_is_run():
    """A list of commands without prompts takes hours, a GPU or a download: it is parsed only."""
    prompting = {
        path.removeprefix("docs/")
        for path, text in PAGES.items()
        if any(list(steps(block)) for block in blocks(text) if block.is_console)
    }
    run = {*FROM_AN_EMPTY_FOLDER, *IN_A_CHECKOUT, *WITH_A_RELEASE}
    assert prompting - {"README.md"} == run


def test_readme_shows_a_step_of_the_tutorial():
    shown = [steps(block) for block in blocks(PAGES["README.md"]) if list(steps(block))]
    [readme] = [list(one) for one in shown]
    assert readme in [list(steps(block)) for block in blocks(read_page("tutorial.md"))]


def test_missing_line_of_output_is_reported(tmp_path):
    page = "```console\n$ echo one\none\n$ echo two\nthree\n```\n"
    [missing] = run_page(page, folder=tmp_path, source=ROOT)
    assert missing.startswith("$ echo two\nthree\n")


# It writes to the home directory as soon as it is parsed.
INSTALLS = "goldentrace --install-completion"
COMMANDS = sorted(
    {
        (page, line)
        for page, text in PAGES.items()
        for line in listed_commands(text)
        if line not in (INSTALLS, "goldentrace COMMAND --help")
    }
)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_command_of_a_page_is_one_that_the_command_line_knows(page, line):
    parse(line)


def test_option_that_does_not_exist_is_seen():
    with pytest.raises(Exception, match="--bass"):
        parse("goldentrace gate --bass HEAD~1")


def parse(line: str) -> None:
    """Parse a command without running it; of ``a|b`` the first, of options in brackets all."""
    words = shlex.split(re.sub(r" [<|] .*| \.\.\.$|[\[\]]", "", line))[1:]
    words = ["1" if word in {"N", "SECONDS"} else word for word in words]
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and not words[0].startswith("-"):
        command, words = command.commands[words[0].partition("|")[0]], words[1:]
    command.make_context("goldentrace", words).close()


@pytest.mark.parametrize("page", PAGES)
def test_make_target_of_a_page_exists(page):
    text = PAGES[page]
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
    named = [
        line.split()[1]
        for block in blocks(text)
        for line in block.text.splitlines()
        if re.match(r"make [\w-]+", line)
    ]
    assert set(named) <= set(targets)


@pytest.mark.parametrize("page", PAGES)
def test_test_file_of_a_page_exists(page):
    named = re.findall(r"\btests/[\w/]+\.py\b", PAGES[page])
    assert [file for file in named if not Path(ROOT / file).is_file()] == []
