"""Runs stand for the numbers of bytes in their order."""

import numpy as np
import pytest

from traces.targets.sglang.byte_runs import (
    as_runs,
    byte_num,
    digest_of,
    joined,
    marks_of,
    runs_below,
    runs_of_pages,
    shared_num,
    surplus,
)


def runs_of(*pages):
    return [page.tolist() for page in runs_of_pages([np.array(one, np.int32) for one in pages])]


def test_numbers_that_follow_each_other_are_one_run_within_a_page():
    assert runs_of([4, 5, 6, 9, 8], [10, 11]) == [[[4, 3], [9, 1], [8, 1]], [[10, 2]]]
    # The second page goes on where the first one ends, and is a page of its own.
    assert runs_of([0, 1], [2, 3]) == [[[0, 2]], [[2, 2]]]


def test_pages_without_bytes_have_no_runs():
    assert runs_of([], [7], []) == [[], [[7, 1]], []]
    assert runs_of([], []) == [[], []]
    assert runs_of_pages([]) == []


def test_unknown_bytes_are_one_run_and_never_go_on_in_known_ones():
    assert runs_of([-1, -1, 0, 1, -1]) == [[[-1, 2], [0, 2], [-1, 1]]]
    assert as_runs([(-1, 2), (-1, 3), (1, 4)]).tolist() == [[-1, 5], [1, 4]]


def test_pieces_that_follow_each_other_are_one_run():
    assert as_runs([(0, 4), (4, 2), (8, 1), (3, 0), (9, 1)]).tolist() == [[0, 6], [8, 2]]
    assert joined([as_runs([(0, 4)]), as_runs([(4, 4)])]).tolist() == [[0, 8]]
    assert joined([]).tolist() == as_runs(()).tolist() == []


def test_bytes_are_counted_and_cut_to_the_memory():
    runs = as_runs([(-1, 2), (6, 4), (20, 3)])
    assert byte_num(runs) == 9
    assert runs_below(8, runs).tolist() == [[6, 2]]
    assert runs_below(23, as_runs([(6, 4), (20, 3)])).tolist() == [[6, 4], [20, 3]]


@pytest.mark.parametrize("size", [12, 4096])
def test_marks_are_the_bytes_that_occur(size):
    pages = [as_runs([(4, 2), (0, 1)]), as_runs([(5, 3)]), as_runs(())]
    assert np.flatnonzero(marks_of(pages, size)).tolist() == [0, 4, 5, 6, 7]
    assert len(marks_of(pages, size)) == size
    assert not marks_of([], size).any()


@pytest.mark.parametrize("size", [12, 4096])
def test_bytes_in_two_pages_or_twice_in_one_are_shared(size):
    apart = [as_runs([(0, 4)]), as_runs([(4, 8)])]
    assert shared_num(apart, size) == 0
    assert shared_num([*apart, as_runs([(2, 3)])], size) == 3
    assert shared_num([as_runs([(1, 2), (0, 2)])], size) == 1


def test_only_bytes_of_the_first_marks_are_surplus():
    one, other = (marks_of([as_runs([piece])], 10) for piece in ((0, 6), (4, 3)))
    assert (surplus(one, other), surplus(other, one), surplus(one, one)) == (4, 1, 0)


def test_a_digest_tells_bytes_order_and_pages_apart():
    page, swapped = as_runs([(0, 4), (8, 4)]), as_runs([(8, 4), (0, 4)])
    digests = {
        digest_of(pages) for pages in ([page], [swapped], [as_runs([(0, 4)]), as_runs([(8, 4)])])
    }
    assert len(digests) == 3
    assert digest_of([page]) == digest_of([as_runs([(0, 2), (2, 2), (8, 4)])])
