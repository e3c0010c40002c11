"""A release that asks for the limits of its container finds none, and everything else as it is."""

from pathlib import Path

import pytest

from traces.targets.sglang.shims.memory_limits import hide_memory_limits
from traces.targets.sglang.shims.module_binding import AttributePatches


@pytest.fixture
def changes():
    patches = AttributePatches()
    yield patches
    patches.undo()


def test_a_process_belongs_to_no_control_group_while_limits_are_hidden(changes):
    groups = Path("/proc/self/cgroup")
    before = groups.read_text()
    hide_memory_limits(changes)
    with pytest.raises(FileNotFoundError, match="/proc/self/cgroup"):
        groups.read_text()
    changes.undo()
    assert groups.read_text() == before


def test_other_files_are_read_as_before(changes, tmp_path):
    file = tmp_path / "cgroup"
    file.write_bytes("Größe".encode("latin-1"))
    hide_memory_limits(changes)
    assert file.read_text(encoding="latin-1") == "Größe"
    assert file.read_text("ascii", "replace") == "Gr\ufffd\ufffde"
