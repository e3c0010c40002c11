"""How long a tree waits for prefetches is told by whichever attributes it keeps it in."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from traces.targets.sglang.tree_steps import TREE, TreeSteps


@dataclass
class Config:
    base: float
    per_ki_token: float
    maximum: float


class EarlierConfig(NamedTuple):
    base: float
    maximum: float


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"prefetch_timeout_base": 1.0, "page_size": 16}, {"prefetch_timeout_base": [1.0]}),
        (
            {"prefetch_timeout_config": Config(2.0, 0.1, 8.5)},
            {"prefetch_timeout_config": [2.0, 0.1, 8.5]},
        ),
        (
            {"prefetch_timeout_config": EarlierConfig(2.0, 8.5)},
            {"prefetch_timeout_config": [2.0, 8.5]},
        ),
        ({"page_size": 16}, {}),
    ],
    ids=["numbers", "a record", "a tuple", "nothing"],
)
def test_the_time_of_a_prefetch_is_told(attributes, told):
    stack = SimpleNamespace(cache=SimpleNamespace(**attributes), controller=None)
    steps = TreeSteps(stack, device=None, rows=None, transfers=None, pools=())
    answers = list(steps._timeouts())
    assert {one.method: one.values for one in answers} == told
    assert {(one.step, one.holder) for one in answers} <= {(TREE, "tree")}


@pytest.mark.parametrize(
    ("has_storage", "last"), [(False, ["full"]), (True, [])], ids=["a tier", "storage"]
)
def test_the_step_that_a_release_may_fail_in_comes_last_without_storage_alone(has_storage, last):
    stack = SimpleNamespace(cache=None, controller=SimpleNamespace(enable_storage=has_storage))
    steps = TreeSteps(stack, device=None, rows=None, transfers=None, pools=())
    assert list(steps.last_steps) == last
