"""Places of causes as paths in a repository."""

import json

import pytest

from tests.tools.report.verdicts import DROPPED, verdict
from tools.report.output import Output, print_verdict
from tools.report.render import Format
from tools.report.repository import with_repository_paths
from traces.schema.model import Location

FILE = DROPPED.location.file


@pytest.fixture
def checkout(tmp_path):
    """A repository with the package below `python/`, as SGLang has it."""
    (tmp_path / ".git").mkdir()
    file = tmp_path / "python" / FILE
    file.parent.mkdir(parents=True)
    file.write_text("")
    return tmp_path


def place(root):
    return with_repository_paths(verdict(DROPPED), root=root).causes[0].location


@pytest.mark.parametrize("side", [".", "python"])
def test_place_is_relative_to_the_repository_whatever_folder_is_the_side(checkout, side):
    expected = Location(file=f"python/{FILE}", line=DROPPED.location.line)
    assert place(checkout / side) == expected


def test_place_without_a_file_or_a_repository_stays(checkout):
    """Control."""
    (checkout / ".git").rmdir()
    assert place(checkout) == DROPPED.location
    (checkout / ".git").mkdir()
    (checkout / "python" / FILE).unlink()
    assert place(checkout) == DROPPED.location
    assert place(None) == DROPPED.location
    assert place(checkout / "nowhere") == DROPPED.location


def test_annotations_and_sarif_have_the_path_and_json_keeps_that_of_the_package(checkout, capsys):
    def printed(form):
        print_verdict(verdict(DROPPED), Output(form=form, strict=False, root=checkout))
        return capsys.readouterr().out

    assert f"::error file=python/{FILE},line={DROPPED.location.line}," in printed(Format.GITHUB)
    [result] = json.loads(printed(Format.SARIF))["runs"][0]["results"]
    shown = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert shown == f"python/{FILE}"
    assert json.loads(printed(Format.JSON))["causes"][0]["location"]["file"] == FILE
