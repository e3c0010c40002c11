"""Preparation of sides: a tree on disk, an interpreter, and the dependencies it lacks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tools.console import print_status
from tools.errors import ToolError
from tools.git import checkout_commit, try_git
from tools.sides.environments.cache import (
    PreparedSide,
    environment_for,
    newest_release,
    pinned_layers,
)
from tools.sides.environments.trees import package_root, read_release
from tools.sides.parse import Side

# An environment that has these was made for sglang; their dependencies came with them.
SGLANG_DEPENDENCIES = ("transformers", "torchvision", "compressed_tensors")
_PACKAGE_FOLDERS = ("python/sglang", "sglang")


def parse_python(text: str | None) -> Path | None:
    """Return the interpreter named on the command line.

    Raises:
        ToolError: it is no program.
    """
    if text is None:
        return None
    # Not resolved: a virtual environment's interpreter is a link that must stay one.
    python = Path(text).expanduser().absolute()
    if not python.is_file() or not os.access(python, os.X_OK):
        raise ToolError("--python", "must be an interpreter", expected="a program", got=repr(text))
    return python


@contextmanager
def prepare_side(side: Side, *, root: Path) -> Iterator[PreparedSide]:
    """Yield a side whose package can be imported; a checkout made for it is removed at the end.

    Raises:
        ToolError: a revision cannot be checked out, an environment not be built, or the side
            is golden.
    """
    match side.kind:
        case "golden":
            expected = "anything else"
            raise ToolError("side", "must be runnable", expected=expected, got="golden")
        case "worktree":
            yield PreparedSide(root=root)
        case "revision":
            with checkout_commit(root, commit=side.commit, folder="assembler") as tree:
                yield PreparedSide(root=tree)
        case "pypi":
            prepared = environment_for(side.release)
            _print_note(prepared.note)
            yield prepared
        case "dir":
            yield _prepare_tree(_require_place(side), release=side.release, python=side.python)
        case "git":
            with checkout_commit(
                _require_place(side), commit=side.commit, folder=_package_folder(side)
            ) as tree:
                place = package_root(tree)
                yield _prepare_tree(place, release=read_release(place) or "", python=side.python)


def _prepare_tree(root: Path, *, release: str, python: Path | None) -> PreparedSide:
    if python is not None:
        return PreparedSide(root=root, python=python)
    if all(find_spec(name) is not None for name in SGLANG_DEPENDENCIES):
        return PreparedSide(root=root)
    pinned_for = release or newest_release()
    if not release:
        _print_note(f"{root} does not say which release it is: requirements of {pinned_for} used")
    layers, note = pinned_layers(pinned_for)
    _print_note(note)
    return PreparedSide(root=root, layers=layers)


def _package_folder(side: Side) -> str:
    for folder in _PACKAGE_FOLDERS:
        exists = f"{side.commit}:{folder}/srt"
        if try_git(_require_place(side), "cat-file", "-e", exists) is not None:
            return folder
    expected = " or ".join(_PACKAGE_FOLDERS)
    raise ToolError(side.text, "must hold sglang", expected=expected, got="neither")


def _require_place(side: Side) -> Path:
    assert side.place is not None
    return side.place


def _print_note(note: str) -> None:
    if note:
        print_status(f"note: {note}")
