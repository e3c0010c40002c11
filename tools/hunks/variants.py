"""Runs of the head without some hunks, compared with the head."""

import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tools.errors import ToolError
from tools.hunks.bisection import HunkSet, Trial
from tools.hunks.source_hunks import SourceDiff
from tools.hunks.worker import RunVariant
from tools.workers.launch import WorkerLauncher
from tools.workers.pool import WorkerPool
from traces.diff import compare_sides
from traces.diff.aliases import Aliases
from traces.schema.model import Failure, Recording
from traces.targets.common.scenario import Scenario

_QUOTED = re.compile(r"['\"]([\w.]+)['\"]")
_CALLED = re.compile(r"(\w+)\(\)")
# Errors of code whose parts do not fit: a name, a parameter or an attribute that others lack.
_MISFITS = frozenset(
    {
        "AttributeError",
        "ImportError",
        "ModuleNotFoundError",
        "NameError",
        "TypeError",
        "UnboundLocalError",
    }
)


@dataclass(slots=True, kw_only=True)
class VariantRuns:
    """Runs of the head without some hunks.

    Attributes:
        pool: one worker that has imported the head.
        package: folder of the package under a root.
        base: recordings of the base; ``head`` those of the head.
        deadline: monotonic time after which no run begins.
    """

    pool: WorkerPool
    diff: SourceDiff
    package: str
    scenarios: tuple[Scenario, ...]
    device: str
    base: Mapping[str, Recording]
    head: Mapping[str, Recording]
    aliases: Aliases
    deadline: float
    _longest_seconds: float = field(default=0.0)

    def has_time(self) -> bool:
        """Return whether another run can end in time, if it takes as long as the longest one."""
        return time.monotonic() + self._longest_seconds < self.deadline

    def run(self, hunks: HunkSet) -> Trial:
        """Run the scenarios on the head without some hunks."""
        start = time.monotonic()
        try:
            found = self._run_variant(self.diff.reverted(hunks))
        except ToolError as error:
            return Trial(is_broken=True, names=names_in(str(error)))
        finally:
            self._longest_seconds = max(self._longest_seconds, time.monotonic() - start)
        for name, recording in found.items():
            failure = recording.trace.outcome.failure
            if failure is not None and self._is_misfit(name, failure):
                return Trial(is_broken=True, names=names_in(failure.message))
        head = {name: self.head[name] for name in found}
        return Trial(causes=compare_sides(found, head, aliases=self.aliases))

    def _is_misfit(self, name: str, failure: Failure) -> bool:
        known = [side[name].trace.outcome.failure for side in (self.base, self.head)]
        return failure.type in _MISFITS and failure not in known

    def _run_variant(self, texts: Mapping[str, str]) -> dict[str, Recording]:
        task = RunVariant(texts=texts, scenarios=self.scenarios, device=self.device)
        found = self.pool.call(task)
        if found is None:
            found = self._run_in_tree(texts, replace(task, texts={}))
        return {
            name: msgspec.msgpack.decode(encoded, type=Recording) for name, encoded in found.items()
        }

    def _run_in_tree(self, texts: Mapping[str, str], task: RunVariant) -> dict[str, bytes]:
        """Run in a process that imports a copy of the package with other texts."""
        launcher = self.pool.launcher
        with TemporaryDirectory(prefix="goldentrace-hunks-", ignore_cleanup_errors=True) as folder:
            root = Path(folder).resolve()
            link_tree(launcher.root / self.package, root / self.package)
            for file, text in {**self.diff.only_base, **texts}.items():
                _write_new(root / file, text)
            with variant_pool(
                replace(launcher, root=root), limit_seconds=self.pool.limit_seconds
            ) as pool:
                found = pool.call(task)
        assert found is not None
        return found


def variant_pool(launcher: WorkerLauncher, *, limit_seconds: float) -> WorkerPool:
    """Return a pool of one worker, which runs several scenarios in one task."""
    return WorkerPool(launcher=launcher, size=1, limit_seconds=10 * limit_seconds)


def link_tree(source: Path, to: Path) -> None:
    """Make a copy of a folder from hard links; files are copied where links are not possible.

    Times are kept, so that compiled files stay valid. A file must be replaced, never written to.
    """

    def link(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except OSError:
            shutil.copy2(old, new)

    shutil.copytree(source, to, copy_function=link)


def _write_new(path: Path, text: str) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def names_in(message: str) -> tuple[frozenset[str], ...]:
    """Return the identifiers that Python's message about a misfit gives, the surest first.

    ``build() got an unexpected keyword argument 'x'`` is about ``x`` more than about ``build``.
    """
    quoted = frozenset(part for text in _QUOTED.findall(message) for part in text.split("."))
    called = frozenset(_CALLED.findall(message))
    return tuple(names for names in (quoted, called) if names)
