"""The audit of a package: what is shown of a release, and of a tree that derives from one."""

from types import SimpleNamespace

import msgspec
import pytest

from tools.gate.audit import audit_side
from tools.session import Session
from tools.sides.parse import Side
from tools.sides.results import SideResults
from traces.schema.model import Recording, RoundTrip

REVIEWS = """
schema = "goldentrace.reviewed/1"

[[review]]
kind = "declared_not_assembled"
subject = "*: device.KV.k"
verdict = "fault"
reason = "keys are never moved"
line = "pool.py:7"
releases = ["0.5.23"]
evidence = "slots 64 wrong"

[[review]]
kind = "declared_not_assembled"
subject = "*: device.KV.v"
verdict = "by design"
reason = "the model makes them again"
line = "pool.py:9"
releases = ["0.5.23"]
"""


@pytest.fixture
def audited(tmp_path, make_trace):
    """Audits a side with three kinds of rows that nothing moves, two of them reviewed."""
    folder = tmp_path / "traces" / "baseline" / "sglang"
    folder.mkdir(parents=True)
    (folder / "releases.toml").write_text(REVIEWS)
    trips = tuple(
        RoundTrip(
            step="load", pool="KV", plane=plane, equal=False, wrong_slots="64", foreign_slots=""
        )
        for plane in ("k", "v", "scale")
    )
    trace = make_trace("a")
    builder, pool = trace.calls
    [width] = pool.arguments
    # Two arguments of one value: neither is distinctive.
    both = (width, msgspec.structs.replace(width, name="layout"))
    calls = (builder, msgspec.structs.replace(pool, arguments=both))
    trace = msgspec.structs.replace(trace, calls=calls, digests=trips)
    results = SideResults(
        recordings={"a": Recording(trace=trace, sites=None)}, builders=("build_new_stack",)
    )

    def run(kind, text, *, of="0.5.23", release="", is_served=True):
        scenarios = {"a": SimpleNamespace(builder="build_kv_only_stack", is_served=is_served)}
        session = Session(
            root=tmp_path,
            target="sglang",
            scenarios=scenarios,
            open_pool=None,
            open_audit_pool=None,
        )
        side = Side(kind=kind, text=text, release=of)
        return audit_side(session, side, results, release=release)

    return run


def wheres(audited):
    return [cause.where.rpartition(".")[2] for cause in audited.verdict.causes]


def test_a_release_shows_its_faults_and_what_nobody_reviewed(audited):
    found = audited("pypi", "pypi:0.5.23")

    assert sorted(wheres(found)) == ["k", "scale"]
    assert found.verdict.verdict == "fail"
    assert any("1 findings that are no faults of 0.5.23" in note for note in found.notes)


def test_a_tree_that_derives_from_a_release_hears_only_of_what_is_new(audited):
    found = audited("dir", "dir:fork")

    assert wheres(found) == ["scale"]
    assert any("not shown: 1 finding of 1 known fault of 0.5.23" in one for one in found.notes)


def test_the_release_that_a_tree_derives_from_can_be_named(audited):
    assert wheres(audited("dir", "dir:fork", of="")) != ["scale"]
    assert wheres(audited("dir", "dir:fork", of="", release="0.5.23")) == ["scale"]


def test_findings_of_one_fault_are_one_and_each_has_its_key(audited, tmp_path):
    path = tmp_path / "traces" / "baseline" / "sglang" / "releases.toml"
    values = """
[[review]]
kind = "declared_not_assembled"
subject = "*: device.KV.scale"
verdict = "fault"
reason = "the scales of the same keys"
line = "pool.py:8"
releases = ["0.5.23"]
fault = "keys are never moved"
evidence = "slots 64 wrong"
"""
    path.write_text(path.read_text() + values)

    found = audited("pypi", "pypi:0.5.23")

    assert wheres(found) == ["k"]
    assert [one.where.rpartition(".")[2] for one in found.findings] == ["k", "scale"]
    assert "2 findings are this one fault." in found.verdict.causes[0].message
    assert any("shown: 2 findings of 1 known fault of 0.5.23" in note for note in found.notes)


def test_a_release_is_not_blamed_for_pools_that_no_server_makes(audited):
    found = audited("pypi", "pypi:0.5.23", is_served=False)

    assert wheres(found) == []
    assert "not shown: 3 findings about pools that no server makes" in found.notes


def test_everything_is_shown_of_a_release_that_nobody_read(audited):
    found = audited("pypi", "pypi:0.5.9", of="0.5.9")

    assert sorted(wheres(found)) == ["k", "scale", "v"]
    assert any("nothing is reviewed of 0.5.9" in note for note in found.notes)


def test_coverage_of_our_scenarios_is_one_line_and_no_finding(audited):
    found = audited("pypi", "pypi:0.5.23")

    assert {cause.kind.value for cause in found.coverage} == {
        "parameter_blind_spot",
        "uncovered_builder",
    }
    assert {cause.kind.value for cause in found.verdict.causes} == {"declared_not_assembled"}
    [line] = [note for note in found.notes if note.startswith("coverage of our scenarios: ")]
    assert line == (
        "coverage of our scenarios: 2 parameters without a distinctive value, "
        "1 builder without a scenario, 0 methods of pools that could not be called, "
        "0 refusals of a scenario; --coverage lists them"
    )
