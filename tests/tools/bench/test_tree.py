"""The tree benchmark: its requests, its figures, and the trees' agreement."""

import random

import pytest

from tools.bench.tree import fitted_power, tree_figures
from tools.bench.tree_times import time_trees
from tools.bench.tree_worker import OURS, THEIRS, new_tree
from tools.bench.tree_workloads import WORKLOADS
from tools.errors import ToolError


@pytest.mark.parametrize("name", WORKLOADS)
def test_equal_seeds_give_equal_requests(name):
    first, again, other = (
        [list(tokens) for tokens in WORKLOADS[name](random.Random(seed), 40)] for seed in (3, 3, 4)
    )

    assert first == again != other
    assert len(first) == 40


@pytest.mark.parametrize(("power", "sums"), [(1.0, [3, 6, 9, 12]), (2.0, [1, 4, 9, 16])])
def test_growth_is_the_power_of_the_requests(power, sums):
    assert fitted_power(sums) == pytest.approx(power)


class Remembering:
    """A tree that keeps whole requests."""

    def __init__(self):
        self.requests = []

    def match(self, tokens):
        shared = (common(tokens, other) for other in self.requests)
        return max(shared, default=0)

    def insert(self, tokens, slots, *, cached):
        assert len(slots) == len(tokens)
        self.requests.append(tokens)

    def node_num(self):
        return len(self.requests)


def common(first, second):
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))


def test_our_tree_finds_what_was_inserted():
    trees = {OURS: new_tree(page_size=1), "requests": Remembering()}

    times = time_trees(trees, workload="turns", requests=40, seed=0)

    assert times[OURS].hit_tokens == times["requests"].hit_tokens > 0
    assert times["requests"].node_num == (10, 20, 30, 40)


def result(hit_tokens):
    ours, theirs = (
        {
            "match_seconds": [scale, 2 * scale, 3 * scale, 4 * scale],
            "insert_seconds": [scale, 2 * scale, 3 * scale, 4 * scale],
            "node_num": [1, 2, 3, 5],
            "hit_tokens": hits,
        }
        for scale, hits in ((1.0, hit_tokens), (2.0, 8))
    )
    return {"times": {OURS: ours, THEIRS: theirs}, "memory": {OURS: 600.0, THEIRS: 800.0}}


def test_figures_are_ours_over_the_releases():
    assert tree_figures(result(hit_tokens=8)) == {
        "nodes": 5,
        "match_ratio": 0.5,
        "insert_ratio": 0.5,
        "bytes_a_node": 600,
        "memory_ratio": 0.75,
        "growth": pytest.approx(1.0),
    }


def test_trees_that_disagree_have_no_figures():
    message = "tree: both trees must have the same hit_tokens; expected 8, got 7"
    with pytest.raises(ToolError, match=message):
        tree_figures(result(hit_tokens=7))
