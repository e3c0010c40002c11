"""Places of causes as paths in a repository, where services for pull requests look for them."""

from pathlib import Path

import msgspec

from traces.schema.model import Location
from traces.schema.verdict import Cause, Verdict


def with_repository_paths(verdict: Verdict, *, root: Path | None) -> Verdict:
    """Return a verdict whose places are relative to the repository that has the judged tree.

    Places are relative to the folder of a package, which may lie below ``root``, as ``python/`` in
    a checkout of SGLang. A place whose file is not there, or is in no repository, stays as it is.
    """
    if root is None:
        return verdict
    causes = tuple(_with_path(cause, root.absolute()) for cause in verdict.causes)
    return msgspec.structs.replace(verdict, causes=causes)


def _with_path(cause: Cause, root: Path) -> Cause:
    if cause.location is None:
        return cause
    file = _find_file(root, cause.location.file)
    repository = (
        next((one for one in file.parents if (one / ".git").exists()), None) if file else None
    )
    if file is None or repository is None:
        return cause
    path = file.relative_to(repository).as_posix()
    return msgspec.structs.replace(cause, location=Location(file=path, line=cause.location.line))


def _find_file(root: Path, name: str) -> Path | None:
    """Return a file below a folder, or below one of the folders in it."""
    folders = (
        (root, *sorted(one for one in root.iterdir() if one.is_dir())) if root.is_dir() else ()
    )
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
