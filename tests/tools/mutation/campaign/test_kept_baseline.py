"""Results of the unchanged code are kept whole, and only for the same code."""

from pathlib import Path

from tools.mutation.campaign import kept_baseline
from tools.mutation.campaign.driver import BaselineRun, CampaignPlan
from tools.mutation.campaign.kept_baseline import KEPT_MAX, keep, kept_path, read_kept
from tools.mutation.campaign.tasks import BaselineResult, RunSettings

RESULT = BaselineResult(name="s", recording=b"r", reached={"a.py": frozenset({1, 2})})
BASELINE = BaselineRun(results={"s": RESULT}, unsupported={"t": "lacks it"}, is_checked=True)


def plan(root: Path, **options) -> CampaignPlan:
    given = {"device": "cpu", "limit_seconds": 1.0, "is_gate": False}
    return CampaignPlan(
        root=root,
        target="native",
        files=("a.py",),
        mutants=(),
        scenarios={},
        settings=RunSettings(**{**given, **options}),
        scenarios_max=None,
    )


def test_what_is_kept_is_read_again(tmp_path):
    path = tmp_path / "kept" / "one.pickle"
    assert read_kept(path) is None
    keep(path, BASELINE)
    assert read_kept(path) == BASELINE


def test_half_a_file_or_another_object_is_nothing(tmp_path):
    path = tmp_path / "one.pickle"
    keep(path, BASELINE)
    path.write_bytes(path.read_bytes()[:-9])
    assert read_kept(path) is None
    keep(path, "text")
    assert read_kept(path) is None


def test_another_source_or_device_has_another_file(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    before = kept_path(plan(tmp_path))
    assert kept_path(plan(tmp_path)) == before
    assert kept_path(plan(tmp_path, device="sim")) != before
    (tmp_path / "a.py").write_text("x = 2\n")
    assert kept_path(plan(tmp_path)) != before


def test_of_our_own_sources_those_that_make_recordings_count(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_baseline, "_CHECKOUT", tmp_path)
    for folder in ("diff", "targets"):
        (tmp_path / "traces" / folder).mkdir(parents=True)
    (tmp_path / "a.py").write_text("x = 1\n")
    before = kept_path(plan(tmp_path))
    (tmp_path / "traces" / "diff" / "pairing.py").write_text("x = 1\n")
    assert kept_path(plan(tmp_path)) == before
    (tmp_path / "traces" / "targets" / "script.py").write_text("x = 1\n")
    assert kept_path(plan(tmp_path)) != before


def test_oldest_are_removed(tmp_path):
    for number in range(KEPT_MAX + 2):
        keep(tmp_path / f"{number}.pickle", BASELINE)
    assert len(list(tmp_path.glob("*.pickle"))) == KEPT_MAX


def test_lines_of_all_scenarios_are_joined():
    other = BaselineResult(name="t", reached={"a.py": frozenset({9}), "b.py": frozenset({1})})
    found = BaselineRun(results={"s": RESULT, "t": other}, unsupported={})
    assert found.reached == {"a.py": frozenset({1, 2, 9}), "b.py": frozenset({1})}
