"""Consequences under the cause of their own hunks."""

import pytest

from tools.hunks.bisection import Making
from tools.hunks.refile import file_by_hunks
from tools.hunks.source_hunks import CodeHunk
from traces.schema.model import Location
from traces.schema.verdict import Cause, Consequence, Kind, Level


def hunk(number):
    line = 10 * (number + 1)
    return CodeHunk(
        number=number,
        file="pkg/stack.py",
        base=range(line, line + 1),
        head=range(line, line + 1),
        before=("old\n",),
        after=("new\n",),
    )


def cause(where, *, kind=Kind.ARGUMENT_CHANGED, level=Level.BEHAVIOUR, follows=(), line=1, rank=0):
    return Cause(
        kind=kind,
        level=level,
        where=where,
        message="m",
        rank=(0, rank),
        location=Location(file="pkg/stack.py", line=line),
        scenarios=("s",),
        consequences=tuple(follows),
    )


def follows(where, *, kind=Kind.TRANSFER_REMOVED, level=Level.BEHAVIOUR):
    return Consequence(kind=kind, where=where, before={}, after=None, level=level, count=1)


def told(causes):
    return [
        (one.where, [hunk.head_line for hunk in one.made_by], [q.where for q in one.consequences])
        for one in causes
    ]


RENAMED = cause("SwaHost.rows", kind=Kind.PARAMETER_REMOVED)


def test_lost_transfer_leaves_the_parameter_of_another_pool():
    mixed = cause(
        "SwaHost.rows", kind=Kind.PARAMETER_REMOVED, follows=[follows("backup KV layer 3")]
    )
    lost = cause("backup KV layer 3", kind=Kind.TRANSFER_REMOVED, rank=5)
    makings = [
        Making(hunks=frozenset({hunk(0)}), causes=(RENAMED,)),
        Making(hunks=frozenset({hunk(1)}), causes=(lost,)),
    ]
    assert sorted(told(file_by_hunks([mixed], makings))) == [
        ("SwaHost.rows", [10], []),
        ("backup KV layer 3", [20], []),
    ]


def test_consequence_stays_with_the_cause_that_its_hunk_makes():
    one = cause("Host.dim", follows=[follows("backup KV layer 3")])
    makings = [Making(hunks=frozenset({hunk(0)}), causes=(one,))]
    assert told(file_by_hunks([one], makings)) == [("Host.dim", [10], ["backup KV layer 3"])]


def test_consequence_moves_to_the_first_cause_of_its_hunk():
    first = cause("Host.dim", follows=[follows("backup KV layer 3"), follows("load SWA layer 1")])
    second = cause("Group.entries", rank=3)
    makings = [
        Making(
            hunks=frozenset({hunk(0)}),
            causes=(cause("Host.dim", follows=[follows("backup KV layer 3")]),),
        ),
        Making(
            hunks=frozenset({hunk(1)}),
            causes=(cause("Group.entries", rank=3, follows=[follows("load SWA layer 2")]),),
        ),
    ]
    assert told(file_by_hunks([first, second], makings)) == [
        ("Host.dim", [10], ["backup KV layer 3"]),
        ("Group.entries", [20], ["load SWA layer 1"]),
    ]


def test_cause_that_follows_from_another_one_is_filed_under_it():
    upstream = cause("Host.dim")
    apart = cause("backup KV layer 3", kind=Kind.TRANSFER_REMOVED, rank=7)
    makings = [
        Making(
            hunks=frozenset({hunk(0)}),
            causes=(cause("Host.dim", follows=[follows("backup KV layer 3")]),),
        )
    ]
    assert told(file_by_hunks([upstream, apart], makings)) == [
        ("Host.dim", [10], ["backup KV layer 3"])
    ]


def test_cause_that_no_hunk_makes_stays_with_what_follows_from_it():
    one = cause("Host.dim", follows=[follows("backup KV layer 3")])
    makings = [Making(hunks=frozenset({hunk(0)}), causes=(cause("Group.entries"),))]
    assert ("Host.dim", [], ["backup KV layer 3"]) in told(file_by_hunks([one], makings))


def test_equal_causes_of_two_lines_get_the_hunk_of_their_own_line():
    causes = [cause("Host.dim", line=10), cause("Host.dim", line=20)]
    makings = [
        Making(hunks=frozenset({hunk(number)}), causes=(causes[number],)) for number in (0, 1)
    ]
    assert [
        (one.location.line, [hunk.head_line for hunk in one.made_by])
        for one in file_by_hunks(causes, makings)
    ] == [(10, [10]), (20, [20])]


@pytest.mark.parametrize(
    ("own", "level"), [(Level.INTERFACE, Level.INTERFACE), (Level.BEHAVIOUR, Level.BEHAVIOUR)]
)
def test_cause_has_the_level_that_its_own_hunk_gives_it(own, level):
    mixed = cause("SwaHost.rows", follows=[follows("backup KV layer 3")])
    lost = cause("backup KV layer 3", kind=Kind.TRANSFER_REMOVED)
    makings = [
        Making(hunks=frozenset({hunk(0)}), causes=(cause("SwaHost.rows", level=own),)),
        Making(hunks=frozenset({hunk(1)}), causes=(lost,)),
    ]
    levels = {one.where: one.level for one in file_by_hunks([mixed], makings)}
    assert levels == {"SwaHost.rows": level, "backup KV layer 3": Level.BEHAVIOUR}
