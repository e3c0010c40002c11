"""Forms in which a verdict leaves a command."""

import json

import pytest

from tests.tools.report.verdicts import DROPPED, verdict
from tools.errors import ToolError
from tools.report.output import Output, report_verdict
from tools.report.render import Format, FormatFile


def report(judge, output: Output) -> int:
    return report_verdict(judge, output=output, target="native")


def test_quiet_text_is_one_line_with_the_first_cause(capsys):
    output = Output(form=Format.TEXT, strict=False, quiet=True)
    assert report(lambda: (verdict(DROPPED), ()), output) == 1
    assert capsys.readouterr().out == (
        "FAIL native: worktree against golden; 3 scenarios played, 1 unchanged, 2 changed; "
        "argument_dropped: override_kv_cache_dim 656 -> nothing, in build_shared_anchor_stack -> "
        "MLATokenToKVPoolHost (assembler/stacks.py:123), 1 scenario\n"
    )


def test_quiet_leaves_forms_for_machines_whole(capsys):
    output = Output(form=Format.JSON, strict=False, quiet=True)
    assert report(lambda: (verdict(), ()), output) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "pass"


def test_files_get_their_forms_beside_stdout(tmp_path, capsys):
    files = (
        FormatFile(Format.SARIF, tmp_path / "out.sarif"),
        FormatFile(Format.MARKDOWN, tmp_path / "out.md"),
    )
    output = Output(form=Format.TEXT, strict=False, files=files)
    assert report(lambda: (verdict(DROPPED), ()), output) == 1
    assert capsys.readouterr().out.startswith("FAIL  native")
    assert json.loads((tmp_path / "out.sarif").read_text())["version"] == "2.1.0"
    assert (tmp_path / "out.md").read_text().startswith("### goldentrace: **fail**")


def test_files_say_that_nothing_could_be_judged(tmp_path, capsys):
    def judge():
        raise ToolError("golden a", "must be readable", expected="JSON", got="nothing")

    path = tmp_path / "out.json"
    output = Output(form=Format.TEXT, strict=False, files=(FormatFile(Format.JSON, path),))
    with pytest.raises(ToolError, match="must be readable"):
        report(judge, output)
    assert json.loads(path.read_text())["verdict"] == "error"
    assert capsys.readouterr().out == ""


def test_file_in_a_folder_that_does_not_exist_is_refused_and_none_is_written(tmp_path):
    files = (
        FormatFile(Format.JSON, tmp_path / "a.json"),
        FormatFile(Format.JSON, tmp_path / "none" / "b.json"),
    )
    output = Output(form=Format.TEXT, strict=False, files=files)
    with pytest.raises(ToolError, match="must be writable; expected a file in an existing folder"):
        report(lambda: (verdict(), ()), output)
    assert list(tmp_path.iterdir()) == []
