"""Server flags that a release's code reads, with values that are not their defaults."""

import argparse
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from traces.targets.common.source_reads import read_fact, remember_facts, source_files
from traces.targets.sglang.source_facts import (
    compared_texts,
    flags_without_host_tier,
    read_attributes,
)

_SERVER_ARGS = "sglang.srt.server_args"
_CHECKS = "arg_groups"
# No default of a release has these values.
_SENTINEL_NUMBER = 3
_SENTINEL_TEXT = "sentinel"


@dataclass(frozen=True, slots=True)
class FlagValue:
    """A server flag with a value that is not its default."""

    name: str
    value: bool | int | str
    default: object

    @property
    def step(self) -> str:
        """Name of the step that runs with it."""
        return f"{self.name}={self.value}".lower()


def flag_values(files: tuple[Path, ...]) -> tuple[FlagValue, ...]:
    """Return every server flag that some source files read, with values that are no default.

    A switch is turned; a flag that is compared with texts gets each of them, one that the command
    line restricts its first other choice; a number and an optional text get one that no default is.
    """
    reads = {name for file in files for name in read_fact(read_attributes, file)}
    texts = _compared_texts(files)
    server_args = importlib.import_module(_SERVER_ARGS).ServerArgs
    choices = _command_line_choices(server_args)
    found: list[FlagValue] = []
    for name, parameter in inspect.signature(server_args).parameters.items():
        default, annotation = parameter.default, parameter.annotation
        if name not in reads:
            continue
        if isinstance(default, bool):
            found.append(FlagValue(name, not default, default))
        elif name in texts:
            found += [FlagValue(name, text, default) for text in texts[name] if text != default]
        elif others := [text for text in choices.get(name, ()) if text != default]:
            found.append(FlagValue(name, others[0], default))
        elif _takes(int, annotation):
            found.append(FlagValue(name, _SENTINEL_NUMBER, default))
        elif _takes(str, annotation) and default is None:
            found.append(FlagValue(name, _SENTINEL_TEXT, default))
    return tuple(found)


def flags_refused_beside_a_host_tier() -> frozenset[str]:
    """Return the flags with which a server of the release refuses to keep caches on the host."""
    return frozenset(
        flag for file in _check_files() for flag in read_fact(flags_without_host_tier, file)
    )


def remember_refused_flags() -> None:
    """Read the server's checks once for all forks of this process."""
    remember_facts(flags_without_host_tier, files=_check_files())


def _check_files() -> Iterator[Path]:
    server_args = Path(inspect.getfile(importlib.import_module(_SERVER_ARGS).ServerArgs))
    yield server_args
    # Later releases have checks in files of their own.
    yield from source_files(server_args.parent / _CHECKS)


def remember_flags(files: tuple[Path, ...], *others: Callable[[str], object]) -> None:
    """Read some source files for :func:`flag_values` once for all forks of this process.

    Other facts of the same files are learnt with them.
    """
    remember_facts(read_attributes, compared_texts, *others, files=files)


def _command_line_choices(server_args: Any) -> dict[str, tuple[str, ...]]:  # noqa: ANN401
    """Return the values that the command line of a server offers, by flag."""
    parser = argparse.ArgumentParser()
    server_args.add_cli_args(parser)
    return {action.dest: tuple(action.choices or ()) for action in parser._actions}  # noqa: SLF001


def _takes(kind: type, annotation: Any) -> bool:  # noqa: ANN401 - a type, or its text
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    names = (kind.__name__, f"Optional[{kind.__name__}]", f"{kind.__name__} | None")
    return kind in (annotation, *get_args(annotation)) or annotation in names


def _compared_texts(files: tuple[Path, ...]) -> dict[str, list[str]]:
    """Return the texts that each attribute is compared with in some files, in order."""
    texts: dict[str, list[str]] = {}
    for file in files:
        for name, found in read_fact(compared_texts, file):
            known = texts.setdefault(name, [])
            known += [text for text in found if text not in known]
    return texts


def error_text(error: Exception) -> str:
    """Return type and message of an error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
