"""Hunks between two trees, and which of them belong together."""

from tests.tools.hunks.small_package import FEWER_SLOTS, NOT_RUN, RENAMED, WIDER_ROW
from tools.hunks import source_hunks
from tools.hunks.source_hunks import (
    changes_bodies_only,
    compare_trees,
    executed_hunks,
    hunks_at,
    is_python,
    linked_units,
    revertible_units,
)
from traces.schema.model import Location


def diff_of(roots):
    return compare_trees(*roots, package="small")


def test_hunk_has_the_lines_of_both_sides(trees):
    [hunk] = diff_of(trees(WIDER_ROW)).hunks
    assert (hunk.file, hunk.base, hunk.head) == ("small/sizes.py", range(9, 10), range(9, 10))
    assert hunk.before == ("    return ROW * planes\n",)
    assert hunk.after == ("    return ROW * planes * 2\n",)
    assert hunk.record.place == "small/sizes.py:9"


def test_equal_trees_have_no_hunk(trees):
    assert diff_of(trees()).hunks == ()


def test_reverted_text_is_that_of_the_base_in_the_lines_of_the_hunk(trees):
    roots = trees(WIDER_ROW, NOT_RUN)
    diff = diff_of(roots)
    texts = diff.reverted(diff.hunks[:1])
    assert "return ROW * planes\n" in texts["small/sizes.py"]
    assert "return number + 2" in texts["small/sizes.py"]
    whole = diff.reverted(diff.hunks)
    assert whole == {"small/sizes.py": (roots[0] / "small" / "sizes.py").read_text()}


def test_inserted_and_deleted_lines_are_reverted(trees):
    inserted = (
        "sizes.py",
        "    return ratio * slots\n",
        "    slots += 1\n    return ratio * slots\n",
    )
    deleted = ("sizes.py", "ROW = 656\n", "")
    roots = trees(inserted, deleted)
    diff = diff_of(roots)
    assert [(len(one.before), len(one.after)) for one in diff.hunks] == [(1, 0), (0, 1)]
    assert (
        diff.reverted(diff.hunks)["small/sizes.py"] == (roots[0] / "small" / "sizes.py").read_text()
    )


def test_files_of_one_side_are_named(trees):
    base, head = trees(WIDER_ROW)
    (base / "small" / "gone.py").write_text("OLD = 1\n")
    (head / "small" / "new.py").write_text("NEW = 1\n")
    diff = diff_of((base, head))
    assert diff.only_base == {"small/gone.py": "OLD = 1\n"}
    assert diff.only_head == ("small/new.py",)
    assert [hunk.file for hunk in diff.hunks] == ["small/sizes.py"]


def test_hunks_that_open_and_close_a_block_are_one_unit(trees):
    roots = trees(
        ("stack.py", "    return {\n", "    return dict(\n        {\n"),
        ("stack.py", "    }\n", "    })\n"),
    )
    diff = diff_of(roots)
    assert len(diff.hunks) == 2
    assert [len(unit) for unit in revertible_units(diff, diff.hunks, is_code=is_python)] == [2]


def test_renamed_parameter_and_its_callers_are_one_unit(trees):
    diff = diff_of(trees(*RENAMED, FEWER_SLOTS))
    units = linked_units(diff, revertible_units(diff, diff.hunks, is_code=is_python))
    assert sorted(len(unit) for unit in units) == [1, 3]
    [alone] = [hunk for unit in units if len(unit) == 1 for hunk in unit]
    assert alone.after == ('        "slots": host_slots(ratio=ratio, slots=32),\n',)


def test_unit_with_a_changed_signature_is_told_from_one_with_a_changed_body(trees):
    default = ("sizes.py", "def spare(number):", "def spare(number=1):")
    diff = diff_of(trees(WIDER_ROW, default))
    body, signature = diff.hunks
    assert changes_bodies_only(diff, [body])
    assert not changes_bodies_only(diff, [signature])


def lines_of(diff, *numbers):
    return {"small/sizes.py": frozenset(numbers)}


def test_hunk_in_a_function_that_nothing_runs_is_left_out(trees):
    diff = diff_of(trees(WIDER_ROW, NOT_RUN))
    found = executed_hunks(diff, base=lines_of(diff, 9), head=lines_of(diff, 9))
    assert [hunk.head.start for hunk in found] == [9]
    both = executed_hunks(diff, base=lines_of(diff, 9), head=lines_of(diff, 9, 17))
    assert [hunk.head.start for hunk in both] == [9, 17]


def test_statement_of_a_module_runs_when_it_is_imported(trees):
    diff = diff_of(trees(("sizes.py", "ROW = 656", "ROW = 576")))
    [hunk] = executed_hunks(diff, base=lines_of(diff), head=lines_of(diff))
    assert hunk.after == ("ROW = 576\n",)
    assert executed_hunks(diff, base={}, head={}) == ()


def test_comment_is_never_run(trees):
    diff = diff_of(trees(("sizes.py", "# A row holds all planes.", "# All planes.")))
    assert len(diff.hunks) == 1
    assert executed_hunks(diff, base=lines_of(diff, 9), head=lines_of(diff, 9)) == ()


def test_hunks_at_a_line_are_those_of_its_statement(trees):
    deleted = ("stack.py", '        "bytes": row_bytes(planes=1),\n', "")
    diff = diff_of(trees(deleted, WIDER_ROW))
    at_return = hunks_at(diff, Location(file="small/stack.py", line=8))
    assert [(hunk.file, hunk.after) for hunk in at_return] == [("small/stack.py", ())]
    assert hunks_at(diff, Location(file="small/stack.py", line=3)) == frozenset()
    assert hunks_at(diff, Location(file="small/other.py", line=8)) == frozenset()
    assert hunks_at(diff, None) == frozenset()


def test_no_more_hunks_are_joined_than_the_limit(trees, monkeypatch):
    monkeypatch.setattr(source_hunks, "LINKED_MAX", 2)
    diff = diff_of(trees(*RENAMED))
    units = linked_units(diff, revertible_units(diff, diff.hunks, is_code=is_python))
    assert sorted(len(unit) for unit in units) == [1, 2]
