"""Choice of the scenarios whose host pages are read and written byte by byte."""

from functools import cache

from traces.targets.sglang.registry import registry


@cache
def page_scenarios() -> frozenset[str]:
    """Return the names of the first scenario of each model, host layout and kind of draft.

    These three decide the classes of the host pools and where their bytes lie.
    """
    first: dict[tuple[str, str, str], str] = {}
    for name, scenario in registry().items():
        first.setdefault((scenario.model, scenario.layout, scenario.draft), name)
    return frozenset(first.values())
