"""Methods of pools that could not be called are named with the reason."""

import msgspec

from traces.audit.uncalled import uncalled_methods
from traces.schema.model import Location, Recording
from traces.schema.pools import PoolAnswer, RowWrite

LINE, OTHER = (Location(file="pkg/pools.py", line=line) for line in (10, 20))


def answer(reason=""):
    return PoolAnswer(
        step="pools",
        holder="kv_cache",
        method="get_infos",
        buffers=(),
        views=(),
        values=None,
        reason=reason,
    )


def setter(reason=""):
    return RowWrite(
        step="writes", holder="kv_cache", method="get_infos", rows=(), unknown="", reason=reason
    )


def found_in(made, *scenarios, record=answer):
    """The findings of scenarios, each a reason and the line of the method there."""
    recordings = {}
    for number, (reason, line) in enumerate(scenarios):
        recording = made.recording("a", digests=[record(reason)])
        definitions = {"kv_cache.get_infos": line} if line else {}
        sites = msgspec.structs.replace(recording.sites, definitions=definitions)
        recordings[str(number)] = Recording(trace=recording.trace, sites=sites)
    return [(cause.where, cause.after, cause.location) for cause in uncalled_methods(recordings)]


def test_a_method_that_failed_everywhere_is_named_with_the_first_reason(made):
    scenarios = ("ValueError: one", LINE), ("ValueError: two", LINE)
    assert found_in(made, *scenarios) == [("kv_cache.get_infos", "ValueError: one", LINE)]


def test_a_setter_that_could_not_be_called_is_named_too(made):
    found = found_in(made, ("ValueError: one", LINE), record=setter)
    assert found == [("kv_cache.get_infos", "ValueError: one", LINE)]
    assert found_in(made, ("", LINE), record=setter) == []


def test_a_method_that_answered_once_was_judged(made):
    assert found_in(made, ("ValueError: one", LINE), ("", LINE)) == []


def test_the_same_path_of_another_class_is_another_method(made):
    found = found_in(made, ("ValueError: one", LINE), ("", OTHER))
    assert found == [("kv_cache.get_infos", "ValueError: one", LINE)]
