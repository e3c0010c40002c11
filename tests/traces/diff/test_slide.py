"""Which of equal neighbours is missing follows from the lines of the others."""

from traces.diff.align import Alignment, Hunk
from traces.diff.slide import AlignedSide, slide_hunks
from traces.schema.model import Location


def side(records, *lines, file="a.py"):
    found = [None if line is None else Location(file=file, line=line) for line in lines]
    return AlignedSide(records=records, line=found.__getitem__)


def last_lost(count):
    """An alignment that leaves the last of some equal records without partner."""
    pairs = tuple((i, i) for i in range(count - 1))
    return Alignment(
        pairs=pairs, hunks=(Hunk(base=range(count - 1, count), head=range(count - 1, count - 1)),)
    )


def test_the_first_of_two_equal_records_is_lost_where_the_second_one_kept_its_line():
    slid = slide_hunks(last_lost(2), side("ww", 10, 20), side("w", 20))

    assert slid.pairs == ((1, 0),)
    assert slid.hunks == (Hunk(base=range(1), head=range(0)),)


def test_the_last_one_is_lost_where_the_others_kept_theirs():
    slid = slide_hunks(last_lost(3), side("www", 10, 20, 30), side("ww", 10, 21))

    assert slid == last_lost(3)


def test_a_record_in_the_middle_is_lost_though_all_lines_moved():
    slid = slide_hunks(last_lost(3), side("www", 10, 50, 90), side("ww", 12, 92))

    assert slid.pairs == ((0, 0), (2, 1))
    assert slid.hunks == (Hunk(base=range(1, 2), head=range(1, 1)),)


def test_a_new_record_is_placed_in_the_same_way():
    alignment = Alignment(pairs=((0, 0),), hunks=(Hunk(base=range(1, 1), head=range(1, 2)),))

    slid = slide_hunks(alignment, side("w", 20), side("ww", 10, 20))

    assert slid.pairs == ((0, 1),)
    assert slid.hunks == (Hunk(base=range(0), head=range(1)),)


def test_other_records_and_unknown_lines_move_nothing():
    assert slide_hunks(last_lost(2), side("vw", 10, 20), side("v", 20)) == last_lost(2)
    assert slide_hunks(last_lost(2), side("ww", None, 20), side("w", 20)) == last_lost(2)


def test_a_gap_moves_down_as_well():
    alignment = Alignment(pairs=((1, 0),), hunks=(Hunk(base=range(1), head=range(0)),))

    slid = slide_hunks(alignment, side("ww", 10, 20), side("w", 10))

    assert slid.pairs == ((0, 0),)
    assert slid.hunks == (Hunk(base=range(1, 2), head=range(1, 1)),)
