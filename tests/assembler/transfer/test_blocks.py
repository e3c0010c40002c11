import numpy as np

from assembler.transfer.blocks import Blocks, join_blocks, row_runs


def runs(src_rows, dst_rows, *, touches=True):
    found = row_runs(np.array(src_rows, int), np.array(dst_rows, int), touches=touches)
    return [array.tolist() for array in found]


def joined(src, dst, sizes):
    blocks = Blocks(src=np.array(src, int), dst=np.array(dst, int), sizes=np.array(sizes, int))
    found = join_blocks(blocks)
    return found.src.tolist(), found.dst.tolist(), found.sizes.tolist()


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


def test_blocks_that_touch_on_both_sides_become_one():
    assert joined([100, 110, 120], [500, 510, 520], [10, 10, 10]) == ([100], [500], [30])


def test_a_gap_on_one_side_keeps_blocks_apart():
    assert joined([100, 110], [500, 511], [10, 10]) == ([100, 110], [500, 511], [10, 10])
    assert joined([100, 111], [500, 510], [10, 10]) == ([100, 111], [500, 510], [10, 10])
    assert joined([110, 100], [510, 500], [10, 10]) == ([110, 100], [510, 500], [10, 10])


def test_blocks_of_different_sizes_are_joined_by_their_ends():
    assert joined([0, 8, 40, 41], [100, 108, 140, 141], [8, 32, 1, 5]) == ([0], [100], [46])
    assert joined([0, 8, 48], [100, 108, 148], [8, 32, 4]) == ([0, 48], [100, 148], [40, 4])


def test_no_blocks_are_no_blocks():
    assert joined([], [], []) == ([], [], [])
