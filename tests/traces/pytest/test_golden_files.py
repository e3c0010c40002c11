import pytest

from traces.errors import GoldenNameError, GoldenWriteError
from traces.pytest.golden_files import check_name, golden_path, orphans, refuse_writing_in_ci


@pytest.mark.parametrize("name", ["a", "kv_only.dsv3.p64", "A-1", "x" * 120, "_"])
def test_fit_names_are_kept_as_they_are(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "a/b", "a:b", "a b", "..", ".hidden", "x" * 121, "a\n", "ä"),
        *("one.sites", "PROVENANCE", "PARITY"),
    ],
)
def test_unfit_names_are_refused_not_cleaned(name):
    with pytest.raises(GoldenNameError, match="golden: name must "):
        check_name(name)


def test_different_names_never_share_a_file(tmp_path):
    names = ["a.b", "ab", "a-b", "a_b", "A.b"]

    assert len({golden_path(tmp_path, name) for name in names}) == 5


def test_orphans_are_goldens_that_no_name_asks_for(tmp_path):
    goldens, sidecars = ("one.json", "two.json"), ("one.sites.json", "PROVENANCE.json")
    for file in (*goldens, *sidecars, "PARITY.json", "README.md"):
        (tmp_path / file).write_text("{}")

    assert orphans(tmp_path, ["one"]) == ("two",)
    assert orphans(tmp_path, []) == ("one", "two")
    assert orphans(tmp_path, ["one", "two", "three"]) == ()
    assert orphans(tmp_path / "none", ["one"]) == ()


@pytest.mark.parametrize("value", ["1", "true", "yes", "github"])
def test_goldens_are_not_written_in_ci(value):
    with pytest.raises(GoldenWriteError) as caught:
        refuse_writing_in_ci({"CI": value})

    assert str(caught.value) == (
        f"golden: must not be written in CI; expected CI not set, got CI={value}; write it on a "
        "developer's machine and commit it"
    )


@pytest.mark.parametrize("environment", [{}, {"CI": ""}, {"CI": "0"}, {"CI": "False"}])
def test_goldens_are_written_elsewhere(environment):
    refuse_writing_in_ci(environment)
