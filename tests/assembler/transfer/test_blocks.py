import numpy as np
import pytest

from assembler.transfer.blocks import row_runs, runs_of


def runs(src_rows, dst_rows, *, touches=True):
    found = row_runs(np.array(src_rows, int), np.array(dst_rows, int), touches=touches)
    return [array.tolist() for array in found]


def test_a_run_ends_where_either_side_jumps():
    assert runs([4, 5, 6, 7, 8], [8, 9, 12, 13, 14]) == [[0, 2], [2, 3]]
    assert runs([4, 5, 6, 9, 10], [0, 1, 2, 3, 4]) == [[0, 3], [3, 2]]
    assert runs([4, 5, 6], [7, 8, 9]) == [[0], [3]]
    assert runs([6, 5, 4], [6, 5, 4]) == [[0, 1, 2], [1, 1, 1]]
    assert runs([3], [3]) == [[0], [1]]
    assert runs([], []) == [[], []]


def test_rows_that_do_not_touch_are_runs_of_their_own():
    assert runs([4, 5], [4, 5], touches=False) == [[0, 1], [1, 1]]
    assert runs([], [], touches=False) == [[], []]


# Runs of three, one and two rows.
ROWS = [7, 8, 9, 2, 4, 5]


def test_rows_of_one_side_are_in_runs():
    found = runs_of(np.array(ROWS))

    assert (found.starts.tolist(), found.stops.tolist()) == ([0, 3, 4], [3, 4, 6])
    assert (found.mean_length, found.ends) == (2, (2, 9))
    assert runs_of(np.array([], dtype=np.int64)).mean_length == 0


@pytest.mark.parametrize(
    ("start", "stop", "starts", "lengths"),
    [
        (0, 6, [0, 3, 4], [3, 1, 2]),
        (1, 5, [1, 3, 4], [2, 1, 1]),
        (3, 4, [3], [1]),
        (1, 2, [1], [1]),
        (3, 6, [3, 4], [1, 2]),
    ],
)
def test_a_piece_has_the_runs_within_it(start, stop, starts, lengths):
    found = runs_of(np.array(ROWS)).piece(start, stop)

    assert [array.tolist() for array in found] == [starts, lengths]


@pytest.mark.parametrize(
    ("start", "stop", "end"),
    # Where no run ends in between, a run is cut.
    [(0, 5, 4), (0, 3, 3), (0, 2, 2), (3, 5, 4), (4, 5, 5), (0, 6, 6)],
)
def test_a_cut_is_made_where_a_run_ends(start, stop, end):
    assert runs_of(np.array(ROWS)).cut_before(start, stop) == end
