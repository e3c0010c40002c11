import pytest

from traces.diff.index import RecordingIndex
from traces.schema.model import Recording, Sites


@pytest.mark.parametrize(
    ("default", "value", "is_the_same"),
    [
        (1, 1, True),
        (1, True, False),
        (True, True, True),
        (True, 1, False),
        (0, False, False),
        (2.0, 2.0, True),
        (2.0, 2, False),
        ([], [], True),
        (None, None, True),
        (None, 0, False),
        ("a", "b", False),
    ],
)
def test_value_is_the_default_only_with_the_type_of_the_default(
    records, default, value, is_the_same
):
    sites = Sites(calls={}, definitions={}, events=(), defaults={"Host": {"x": default}})
    side = RecordingIndex.of(Recording(trace=records.trace(), sites=sites))

    assert side.is_default("Host", "x", value) is is_the_same


def test_nothing_is_the_default_of_a_parameter_that_has_none(records):
    """Control: neither of another parameter, nor where nothing is known of defaults."""
    sites = Sites(calls={}, definitions={}, events=(), defaults={"Host": {"x": None}})
    known = RecordingIndex.of(Recording(trace=records.trace(), sites=sites))

    assert not known.is_default("Host", "y", None)
    assert not known.is_default("Pool", "x", None)
    assert not RecordingIndex.of(records.trace()).is_default("Host", "x", None)
