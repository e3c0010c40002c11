"""The checkout one stands in is judged, whole and unmixed."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tools.errors import ToolError
from tools.sides import origin
from tools.sides.origin import HANDED_OVER_VARIABLE, checkout_above, imported_root, resolve_root

ROOT = Path(__file__).resolve().parents[3]


def make_checkout(folder: Path, *, name: str = "goldentrace") -> Path:
    for package in ("assembler", "traces", "tools"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    return folder


def never(*_call):
    pytest.fail("must not hand over")


def test_inside_its_own_checkout_the_command_stays(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert resolve_root(arguments=["gate"], working_directory=ROOT / "tests", execute=never) == ROOT


def test_outside_any_checkout_the_imported_copy_is_judged(tmp_path):
    assert resolve_root(arguments=[], working_directory=tmp_path, execute=never) == imported_root()


def test_inside_another_checkout_the_command_is_handed_over(tmp_path):
    other = make_checkout(tmp_path / "other")
    (other / "docs").mkdir()
    calls = []

    def execute(*call):
        calls.append(call)
        raise SystemExit

    with pytest.raises(SystemExit):
        resolve_root(arguments=["gate", "x"], working_directory=other / "docs", execute=execute)
    [(program, arguments, environment)] = calls
    assert program == sys.executable
    assert arguments == [sys.executable, "-P", "-m", "tools.cli", "gate", "x"]
    assert environment["PYTHONPATH"].split(":")[0] == str(other)


def test_hand_over_that_changed_nothing_is_refused(tmp_path, monkeypatch):
    other = make_checkout(tmp_path / "other")
    monkeypatch.setenv(HANDED_OVER_VARIABLE, str(other))
    with pytest.raises(ToolError, match=r"^tools: must come from the current checkout; expected"):
        resolve_root(arguments=[], working_directory=other, execute=never)


def test_project_of_another_name_is_no_checkout(tmp_path):
    assert checkout_above(make_checkout(tmp_path / "a")) == tmp_path / "a"
    assert checkout_above(make_checkout(tmp_path / "b", name="other")) is None


@pytest.mark.parametrize("package", ["assembler", "traces", "tools"])
def test_package_from_another_root_is_refused(tmp_path, monkeypatch, package):
    foreign = tmp_path / package / "__init__.py"

    def find(name):
        place = foreign if name == package else ROOT / name / "__init__.py"
        return ModuleSpec(name, None, origin=str(place))

    monkeypatch.setattr(origin, "find_spec", find)
    with pytest.raises(ToolError, match=f"^{package}: must come from the same root") as caught:
        resolve_root(arguments=[], working_directory=tmp_path, execute=never)
    assert str(foreign) in str(caught.value)


def test_missing_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "find_spec", lambda _name: None)
    with pytest.raises(ToolError, match=r"^assembler: must come from the same root"):
        resolve_root(arguments=[], working_directory=tmp_path, execute=never)
