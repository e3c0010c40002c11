"""The class of a release whose method makes the device pools of a model runner."""

import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from types import FunctionType

from traces.targets.common.source_reads import read_fact, remember_facts, source_files
from traces.targets.sglang.discovery import installed_release
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.server_flags import remember_flags
from traces.targets.sglang.source_facts import POOL_MAKER, defines_pool_maker

_MODEL_EXECUTOR = "sglang.srt.model_executor"


@cache
def pool_maker() -> type:
    """Return the class whose method makes the device pools of a model runner.

    Raises:
        UnsupportedByRelease: the release has none.
    """
    owners = [cls for cls in installed_release().classes if POOL_MAKER in vars(cls)]
    for owner in chain(owners, _runner_parts()):
        return owner
    raise UnsupportedByRelease(f"no class with {POOL_MAKER}")


def pool_maker_methods() -> Iterator[tuple[type, FunctionType]]:
    """Yield the method that makes the pools, with its class; nothing without one."""
    try:
        owner = pool_maker()
    except UnsupportedByRelease:
        return
    yield owner, vars(owner)[POOL_MAKER]


def remember_pool_maker() -> None:
    """Read the sources of pool makers once for all forks of this process."""
    for place in importlib.import_module(_MODEL_EXECUTOR).__path__:
        remember_facts(defines_pool_maker, files=source_files(Path(place)))
    owners = (cls for cls in installed_release().classes if POOL_MAKER in vars(cls))
    remember_flags(tuple(Path(inspect.getfile(owner)) for owner in owners))


def _runner_parts() -> Iterator[type]:
    """Yield the classes of the model executor that have the method, by the text of its modules."""
    package = importlib.import_module(_MODEL_EXECUTOR)
    for place in package.__path__:
        for file in source_files(Path(place)):
            if read_fact(defines_pool_maker, file):
                parts = file.relative_to(place).with_suffix("").parts
                module = importlib.import_module(".".join((_MODEL_EXECUTOR, *parts)))
                yield from (
                    cls
                    for cls in vars(module).values()
                    if isinstance(cls, type) and POOL_MAKER in vars(cls)
                )
