"""Hunks that make a difference, found by running the small package without some of them."""

import subprocess
import sys

import pytest

from tests.tools.hunks.small_package import FEWER_SLOTS, RENAMED, WIDER_ROW
from tools.hunks.bisection import Trial, bisect_hunks
from tools.hunks.source_hunks import compare_trees, is_python, revertible_units
from tools.hunks.variants import names_in
from traces.schema.verdict import Cause, Kind, Level

PROGRAM = "import json; from small.stack import build; print(json.dumps(build(3)))"


class Runs:
    """Runs of the head without some hunks, each in a process of its own."""

    def __init__(self, roots):
        self.diff = compare_trees(*roots, package="small")
        self.head = roots[1]
        self.made = []
        self.known = self.built({})

    def built(self, texts):
        kept = {file: (self.head / file).read_text() for file in texts}
        for file, text in texts.items():
            (self.head / file).write_text(text)
        try:
            done = subprocess.run(
                [sys.executable, "-B", "-c", PROGRAM],
                cwd=self.head,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            for file, text in kept.items():
                (self.head / file).write_text(text)
        return done

    def __call__(self, hunks):
        self.made.append(hunks)
        done = self.built(self.diff.reverted(hunks))
        if done.returncode:
            return Trial(is_broken=True, names=names_in(done.stderr.splitlines()[-1]))
        if done.stdout == self.known.stdout:
            return Trial()
        return Trial(causes=(cause(before=done.stdout, after=self.known.stdout),))


def cause(**changes):
    known = {
        "kind": Kind.ARGUMENT_CHANGED,
        "level": Level.BEHAVIOUR,
        "where": "build",
        "message": "m",
        "rank": (0, 0),
    }
    return Cause(**{**known, **changes})


@pytest.fixture
def bisected(trees):
    def found(*changes, most=100):
        runs = Runs(trees(*changes))
        units = list(revertible_units(runs.diff, runs.diff.hunks, is_code=is_python))
        result = bisect_hunks(
            [units], hunks=runs.diff.hunks, run=runs, has_time=lambda: len(runs.made) < most
        )
        made = [
            sorted(line.strip() for hunk in one.hunks for line in hunk.after)
            for one in result.makings
        ]
        return result, sorted(made)

    return found


def test_two_independent_changes_are_told_apart(bisected):
    result, made = bisected(WIDER_ROW, FEWER_SLOTS)
    assert made == [
        ['"slots": host_slots(ratio=ratio, slots=32),'],
        ["return ROW * planes * 2"],
    ]
    assert result.is_complete
    assert result.broken == ()


def test_change_that_needs_others_is_reverted_with_them(bisected):
    dependent = ("stack.py", "row_bytes(planes=1)", "row_bytes(plane_num=2)")
    result, made = bisected(*RENAMED[:2], dependent)
    assert made == [
        [
            '"bytes": row_bytes(plane_num=2),',
            "def row_bytes(plane_num):",
            "return ROW * plane_num",
        ]
    ]
    assert result.broken == ()


def test_harmless_rename_makes_nothing_and_keeps_its_neighbours_apart(bisected):
    _, made = bisected(*RENAMED, ("sizes.py", "ratio * slots", "ratio * slots - 1"))
    assert made == [["return ratio * slots - 1"]]


def test_changes_that_only_act_together_are_one(bisected):
    first = ("sizes.py", "return ratio * slots", "return max(ratio * slots, 96)")
    second = ("stack.py", "slots=64", "slots=32")
    third = ("sizes.py", "ROW = 656", "ROW = 328 * 2")
    result, made = bisected(first, second, third)
    # 3 * 32 is 96 with and without the bound: reverting the first one alone changes nothing.
    assert made == [['"slots": host_slots(ratio=ratio, slots=32),']]
    assert result.is_complete


def test_search_ends_when_there_is_no_time(bisected):
    result, made = bisected(WIDER_ROW, FEWER_SLOTS, most=1)
    assert not result.is_complete
    assert (made, result.trial_num) == ([], 1)
