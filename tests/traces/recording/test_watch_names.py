"""Names of what is watched: in a list, in pyproject.toml, and those that are refused."""

import pytest

from tests.traces.recording.fresh_package import WATCH
from traces import RecorderError, record


@pytest.mark.parametrize(
    ("watch", "message"),
    [
        ("fresh.pools", "watch: must be a list; expected a module, class or function each, got"),
        (["fresh.pools", "textwrap"], "watch: must lie in one package; expected fresh, got textwr"),
        (["fresh.cache:Nothing"], "watch fresh.cache:Nothing: must be importable; expected a mod"),
        (["fresh.nothing"], "watch fresh.nothing: must be importable"),
        (["fresh.cache:blocks"], "watch fresh.cache:blocks: must be seen whole; .*generator"),
        (["fresh.cache:NUMBER"], "watch fresh.cache:NUMBER: must be code; .* got int"),
        (["fresh.empty"], "watch: must hold functions; expected at least one, got fresh.empty"),
    ],
)
def test_names_that_cannot_be_watched_are_refused(fresh, tmp_path, watch, message):
    fresh(extra="def blocks():\n    yield 1\n\nNUMBER = 3\n")
    (tmp_path / "fresh" / "empty.py").write_text("VALUE = 1\n")

    with pytest.raises(RecorderError, match=message):
        record(watch=watch)


def test_generators_of_a_watched_module_are_left_out(fresh):
    module = fresh(extra="def blocks():\n    yield 1\n")

    with record(watch=WATCH) as recorder:
        module.run()
        assert list(module.blocks()) == [1]

    assert "blocks" not in {call.callee for call in recorder.calls}


def test_names_come_from_the_nearest_pyproject(fresh, tmp_path, monkeypatch):
    module = fresh()
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    setting = '[tool.goldentrace]\nwatch = ["fresh.pools", "fresh.cache:Cache"]\n'
    (tmp_path / "pyproject.toml").write_text(setting)

    with record() as recorder:
        module.run()

    assert {call.callee for call in recorder.calls} >= {"Pool", "Cache", "Cache.save"}
    assert "run" not in {call.callee for call in recorder.calls}
    (tmp_path / "pyproject.toml").write_text("[tool.goldentrace]\nwatch = 3\n")
    wanted = r'watch: must be names; expected \["mypkg.pools"\], got 3'
    with pytest.raises(RecorderError, match=wanted):
        record()


def test_watch_and_target_exclude_each_other(fresh):
    fresh()
    with pytest.raises(RecorderError, match="record: takes one; expected watch or target"):
        record(watch=WATCH, target="native")
    with pytest.raises(RecorderError, match="record: values need names"):
        record(values={int: str})
