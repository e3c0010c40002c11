import pytest

from traces.recording.source_sites import SourceSites


@pytest.fixture
def places(tmp_path):
    return SourceSites(root=tmp_path, package="stacks", hidden=frozenset())


def raised(place, text):
    """Run a text as if it stood in a file, and return what it raises."""
    code = compile(text, str(place), "exec")
    names = {}
    exec(code, names)
    with pytest.raises(ValueError, match="boom") as caught:
        names["outer"]()
    return caught.value


INNER = "def outer():\n    inner()\n\ndef inner():\n    raise ValueError('boom')\n"


def test_failure_is_the_innermost_line_of_the_target(places, tmp_path):
    error = raised(tmp_path / "stacks" / "build.py", INNER)

    failed = places.failure_site(error)

    assert failed is not None
    assert places.site(failed).file == "stacks/build.py"
    assert places.site(failed).line == 5


def test_failure_outside_the_target_has_no_line(places, tmp_path):
    assert places.failure_site(raised(tmp_path / "elsewhere.py", INNER)) is None


def test_equal_places_are_one_object(places):
    raw = [places.current_site() for _ in range(2)]
    other = places.current_site()

    assert raw[0] is raw[1]
    assert other == (raw[0][0], raw[0][1] + 1)
    assert places.site(raw[0]) is places.site(raw[1])
    assert places.site(other) is not places.site(raw[0])
