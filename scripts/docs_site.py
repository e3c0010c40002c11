"""A Sphinx extension: pages that are made from the code, and titles of blocks of source.

``docs/conf.py`` names this file. The pages are written to ``docs/generated``, which git ignores.
"""

import inspect
import re
from pathlib import Path

import typer
from sphinx.application import Sphinx

from tools.cli import app
from tools.report.explanations import explanations

PYTHON_MODULES = (
    "traces",
    "traces.schema.model",
    "traces.schema.verdict",
    "traces.recording.probes",
    "traces.pytest.plugin",
    "assembler.stacks",
)

_TITLED = re.compile(r"^```(?P<kind>\w+) title=\"(?P<title>[^\"]+)\"$", re.MULTILINE)


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Connect the hooks of this extension."""
    sphinx.connect("builder-inited", write_pages)
    sphinx.connect("source-read", _show_titles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(sphinx: Sphinx) -> None:
    """Write the pages that are made from the code."""
    folder = Path(sphinx.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    pages = {
        "commands.md": commands_page(),
        "kinds.md": kinds_page(),
        "python.md": python_page(),
    }
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _show_titles(_sphinx: Sphinx, _name: str, source: list[str]) -> None:
    """Make the title of a block, ``title="blocks.py"``, a caption."""
    source[0] = _TITLED.sub(_captioned, source[0])


def _captioned(found: re.Match[str]) -> str:
    return f"```{{code-block}} {found['kind']}\n:caption: {_plain(found['title'])}\n"


def commands_page() -> str:
    """Return the options of every command, as the command line declares them."""
    lines = ["# Options of every command", "", "Made from the command line itself.", ""]
    for path, command in _commands(typer.main.get_command(app), ("goldentrace",)):
        context = command.context_class(command, info_name=" ".join(path))
        usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
        about = _plain(inspect.cleandoc(command.help or ""))
        lines += [f"## {' '.join(path)}", "", f"`{usage}`", "", about, ""]
        records = [one.get_help_record(context) for one in command.get_params(context)]
        rows = [record for record in records if record is not None]
        if rows:
            lines += ["| argument or option | meaning |", "|---|---|"]
            lines += [f"| `{_cell(name)}` | {_cell(_plain(text))} |" for name, text in rows]
        lines.append("")
    return "\n".join(lines)


def kinds_page() -> str:
    """Return the explanation of every kind of cause."""
    lines = [
        "# Kinds of causes and findings",
        "",
        "`goldentrace explain KIND` prints the same.",
        "",
    ]
    for kind, one in explanations().items():
        lines += [f"## {kind}", "", f"*{one.title}.* {one.meaning}", ""]
        lines += [f"Usual changes: {one.usual}", "", f"Look at: {one.look}", ""]
    return "\n".join(lines)


def python_page() -> str:
    """Return a page that autodoc fills with the docstrings of the public modules."""
    lines = ["# Python", ""]
    for name in PYTHON_MODULES:
        body = [f".. automodule:: {name}", "   :members:", "   :show-inheritance:"]
        lines += [f"## {name}", "", "```{eval-rst}", *body, "```", ""]
    return "\n".join(lines)


def _commands(command, path):
    """Yield every command below one, with the words that name it."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield path, command
        return
    for name, one in subcommands.items():
        yield from _commands(one, (*path, name))


def _plain(text: str) -> str:
    """Return help text as Markdown that shows its own characters."""
    return re.sub(r"([*_<\[])", r"\\\1", text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
