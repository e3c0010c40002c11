"""A syrupy extension that keeps traces as goldens: exact text, safe names, no silent writes.

Differences from syrupy's own extensions:

* keys that are no text vanish, unknown objects become a ``repr``: only traces are taken, and
  :mod:`traces.schema.canonical` refuses what it cannot write;
* names lose characters and length, so several tests share a file: names are restricted;
* text mode reads CRLF as LF: bytes are compared;
* files are written in the middle of a test that may fail later: a write waits for the end;
* ``--snapshot-update`` removes goldens whose test is gone, also after a part of the tests: here
  only after all of them.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syrupy.data import SnapshotCollection, SnapshotCollections
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from typing_extensions import override

from traces.errors import GoldenNameError, TraceFormatError
from traces.pytest import golden_files
from traces.pytest.inventory import DEFAULT_DIRECTORY, DIRECTORY_OPTION
from traces.schema import canonical
from traces.schema.model import Recording, Trace
from traces.schema.verdict import Cause, Level

if TYPE_CHECKING:
    from syrupy.location import PyTestLocation
    from syrupy.types import (
        PropertyFilter,
        PropertyMatcher,
        SerializableData,
        SerializedData,
        SnapshotIndex,
    )


class PendingWrites:
    """Writes that wait for the end of the test that asked for them."""

    def __init__(self) -> None:
        self._texts: dict[Path, str] = {}

    def add(self, path: Path, text: str) -> None:
        """Add a file to write."""
        self._texts[path] = text

    def commit(self) -> None:
        """Write everything, each file in one step, or raise GoldenWriteError."""
        staged, self._texts = self._texts, {}
        for path, text in staged.items():
            canonical.write_atomic(path, text)

    def discard(self) -> tuple[Path, ...]:
        """Drop everything and return the files that are not written."""
        staged, self._texts = self._texts, {}
        return tuple(staged)


pending_writes = PendingWrites()


class GoldenTraceExtension(SingleFileSnapshotExtension):
    """Keeps traces as ``<directory>/<name>.json``.

    The directory is the ini option ``golden_trace_dir`` (relative to the root directory), or
    ``golden`` beside the test module. Every assertion needs a name: ``snapshot(name="my_stack")``.

    Attributes:
        is_exact: whether a golden that differs in the interface only is a mismatch; set when
            goldens are being rewritten.
    """

    _write_mode = WriteMode.TEXT
    file_extension = "json"
    is_exact = False

    @override
    def serialize(
        self,
        data: "SerializableData",
        *,
        exclude: "PropertyFilter | None" = None,
        include: "PropertyFilter | None" = None,
        matcher: "PropertyMatcher | None" = None,
    ) -> "SerializedData":
        """Return the canonical text of a trace, or of the trace of a recording.

        Raises:
            TraceFormatError: it is something else, or has no canonical form.
        """
        if isinstance(data, Recording):
            data = data.trace
        if not isinstance(data, Trace):
            rule, expected = "must be a trace", "Trace or Recording"
            raise TraceFormatError("golden", rule, expected=expected, got=type(data).__name__)
        return canonical.render(data)

    @override
    def matches(
        self, *, serialized_data: "SerializableData", snapshot_data: "SerializableData"
    ) -> bool:
        """Return whether the texts are equal or, the golden being canonical, behave the same.

        Raises:
            TraceFormatError: the golden is no trace.
        """
        if serialized_data == snapshot_data:
            return True
        if self.is_exact:
            return False
        golden = canonical.parse(snapshot_data, subject="golden")
        if canonical.render(golden) != snapshot_data:
            return False
        causes = find_causes(golden, canonical.parse(serialized_data))
        return all(cause.level is Level.INTERFACE for cause in causes)

    @override
    @classmethod
    def get_snapshot_name(
        cls, *, test_location: "PyTestLocation", index: "SnapshotIndex" = 0
    ) -> str:
        """Return the name as it is, or raise GoldenNameError when it is no file name."""
        if not isinstance(index, str):
            raise GoldenNameError("golden", "must be named", expected="a name", got=index)
        return golden_files.check_name(index)

    @override
    @classmethod
    def dirname(cls, *, test_location: "PyTestLocation") -> str:
        """Return the directory of the goldens of a test."""
        config = test_location.item.config
        configured = str(config.getini(DIRECTORY_OPTION))
        beside = Path(test_location.filepath).parent / DEFAULT_DIRECTORY
        return str(config.rootpath / configured if configured else beside)

    @override
    @classmethod
    def discovery_dirname(cls, *, test_location: "PyTestLocation") -> str:
        return cls.dirname(test_location=test_location)

    @override
    def discover_snapshots(
        self, *, test_location: "PyTestLocation", ignore_extensions: list[str] | None = None
    ) -> SnapshotCollections:
        """Return nothing: what syrupy discovers and does not use, it deletes."""
        return SnapshotCollections()

    @override
    def read_snapshot_data_from_location(
        self, *, snapshot_location: str, snapshot_name: str, session_id: str
    ) -> "SerializableData | None":
        """Return the text with its line ends as they are; None when there is no golden.

        Raises:
            TraceFormatError: the file is not UTF-8 or cannot be read.
        """
        path = Path(snapshot_location)
        return canonical.read_text(path) if path.exists() else None

    @override
    @classmethod
    def write_snapshot(cls, **arguments: Any) -> None:
        """Write without syrupy's warning that a name of one's own is no name of the test.

        Raises:
            GoldenWriteError: this is CI, or there can be no such directory.
        """
        golden_files.refuse_writing_in_ci()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"(?s).*Can not relate snapshot", UserWarning)
            try:
                super().write_snapshot(**arguments)
            except OSError as error:
                raise canonical.golden_write_error(
                    Path(str(arguments["snapshot_location"])), error
                ) from error

    @override
    @classmethod
    def write_snapshot_collection(
        cls, *, snapshot_collection: SnapshotCollection, name_order: dict[str, int] | None = None
    ) -> None:
        """Stage the golden; the plugin writes it when the test has passed."""
        (snapshot,) = snapshot_collection
        pending_writes.add(Path(snapshot_collection.location), str(snapshot.data))

    @override
    def delete_snapshots(self, *, snapshot_location: str, snapshot_names: set[str]) -> None:
        """Do nothing: :mod:`traces.pytest.inventory` knows which tests ran."""


def find_causes(golden: Trace, head: Recording | Trace) -> tuple[Cause, ...]:
    """Return why a trace differs from its golden, most upstream first."""
    # Imported late: comparing is the exception, and needs more than recording.
    from traces.diff import diff

    return diff(golden, head)
