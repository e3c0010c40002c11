"""Reader of the TOML files under ``catalogue/``."""

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from tools.errors import ToolError, one_line

_File = TypeVar("_File")


def read_toml(path: Path, kind: type[_File], *, rule: str, holds: str) -> _File:
    """Read a TOML file of a known form.

    Raises:
        ToolError: there is no such file, or it has another form; ``rule`` and ``holds`` say which.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), kind)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ToolError(str(path), rule, expected=holds, got=one_line(str(error))) from error
