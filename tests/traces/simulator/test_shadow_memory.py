import random

import numpy as np
import pytest

from traces.simulator.races import Accessor, LaunchSite
from traces.simulator.shadow_memory import ByteState, ShadowMemory
from traces.simulator.vector_clocks import Timeline

SIZE = 40


def writer(name):
    party = Timeline(number=0, kind="stream", name=name)
    return Accessor(timeline=party, step=1, order=0, label=name, site=LaunchSite(()))


def write(shadow, spans, accessor):
    """Write and return the labels of the writers found there."""
    found = []

    def visit(state, first_byte, stop_byte):
        found.append((state.writers[0].label if state.writers else None, first_byte, stop_byte))
        return ByteState(writers=(accessor,), readers=())

    shadow.visit(np.array(spans, np.int64).reshape(-1, 2), visit)
    return found


def test_each_state_is_visited_once_with_its_first_range():
    shadow, one, two = ShadowMemory(), writer("one"), writer("two")

    assert write(shadow, [[4, 8], [12, 16]], one) == [(None, 4, 8)]
    assert write(shadow, [[6, 14]], two) == [(None, 8, 12), ("one", 6, 8)]
    assert sorted(write(shadow, [[0, 20]], one), key=str) == [
        ("one", 4, 6),
        ("two", 6, 14),
        (None, 0, 4),
    ]


def test_nothing_touched_is_nothing_visited():
    assert write(ShadowMemory(), [], writer("one")) == []


@pytest.mark.parametrize("span_num", [1, 2, 12])
def test_shadow_agrees_with_a_byte_by_byte_model(span_num):
    shadow, model, source = ShadowMemory(), [None] * SIZE, random.Random(7)
    for number in range(300):
        edges = sorted(source.sample(range(SIZE), 2 * span_num))
        spans = [edges[place : place + 2] for place in range(0, len(edges), 2)]
        touched = [byte for first, stop in spans for byte in range(first, stop)]
        found = {label for label, _, _ in write(shadow, spans, writer(str(number)))}

        assert found == {model[byte] for byte in touched}
        for byte in touched:
            model[byte] = str(number)
