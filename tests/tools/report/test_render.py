"""A verdict as text, JSON, markdown and workflow commands."""

import json

import msgspec
import pytest

from tools.report.render import Format, render_verdict
from traces.schema.model import Location
from traces.schema.verdict import (
    Cause,
    Consequence,
    Kind,
    Level,
    ScenarioCounts,
    SourceHunk,
    Verdict,
)
from traces.text.cause_block import TextLayout


def consequence(number: int) -> Consequence:
    return Consequence(
        kind=Kind.SHAPE_CHANGED,
        where=f"host.KV.kv_buffer[{number}]",
        before=[2, 656],
        after=[2, 576],
        level=Level.BEHAVIOUR,
        count=3,
    )


CAUSE = Cause(
    kind=Kind.ARGUMENT_DROPPED,
    level=Level.BEHAVIOUR,
    builder="build_shared_anchor_stack",
    callee="MLATokenToKVPoolHost",
    parameter="override_kv_cache_dim",
    before=656,
    after=None,
    location=Location(file="assembler/stacks.py", line=123),
    scenarios=("nsa_fp8", "nsa_fp8_direct"),
    consequences=tuple(consequence(number) for number in range(10)),
    where="",
    path=("build_kv_host_pool", "MLATokenToKVPoolHost"),
    variants=(),
    count=1,
    message="override_kv_cache_dim is no longer given.",
    rank=(0, 4),
)

INTERFACE = msgspec.structs.replace(
    CAUSE, kind=Kind.ARGUMENT_ADDED, level=Level.INTERFACE, before=None, after=1, consequences=()
)

FAIL = Verdict(
    verdict="fail",
    target="native",
    base={"side": "golden"},
    head={"side": "worktree"},
    scenarios=ScenarioCounts(
        played=41, unchanged=39, changed=2, names_changed=("nsa_fp8", "nsa_fp8_direct")
    ),
    causes=(CAUSE,),
    problems=(),
)
ERROR = msgspec.structs.replace(FAIL, verdict="error", causes=(), problems=("a: 100% gone\nbad",))
PASS = msgspec.structs.replace(FAIL, verdict="pass", causes=())


def text(verdict: Verdict, form: Format, *, coloured: bool = False, strict: bool = False) -> str:
    layout = TextLayout(coloured=coloured)
    return render_verdict(verdict, form=form, strict=strict, layout=layout)


def test_text_has_headline_cause_chain_and_indented_consequences():
    lines = text(FAIL, Format.TEXT).splitlines()
    assert lines[:11] == [
        "FAIL  native: worktree against golden",
        "41 scenarios played, 39 unchanged, 2 changed",
        "",
        "1. argument_dropped  override_kv_cache_dim  656 -> nothing",
        "   override_kv_cache_dim is no longer given.",
        "   assembler/stacks.py:123",
        "   build_shared_anchor_stack -> build_kv_host_pool -> MLATokenToKVPoolHost",
        "   It leads to:",
        "     shape_changed host.KV.kv_buffer[0] [2,656] -> [2,576] (3 times)",
        "     shape_changed host.KV.kv_buffer[1] [2,656] -> [2,576] (3 times)",
        "     shape_changed host.KV.kv_buffer[2] [2,656] -> [2,576] (3 times)",
    ]
    assert lines[-4:] == [
        "     and 2 more: 2 shape_changed",
        "   2 scenarios: nsa_fp8, nsa_fp8_direct",
        "",
        "FAIL  1 cause (1 behaviour), 2 of 41 scenarios changed",
    ]
    assert len(lines) == 20


LONG = msgspec.structs.replace(
    CAUSE,
    before="x" * 90,
    message="attach_hybrid_nsa_pool_to_hiradix_cache no longer passes override_kv_cache_dim to "
    "build_shared_anchor_stack; it was for MLATokenToKVPoolHost.",
    effect="A row of device.KV.kv has 656 bytes; host.KV has rows of 576.",
    location=Location(file="assembler/" + "deep/" * 16 + "stacks.py", line=123),
    source=SourceHunk(
        file="assembler/stacks.py",
        base_line=124,
        head_line=124,
        before=("        override_kv_cache_dim=kv.device_pool.host_row_width,",),
        after=(),
    ),
    scenarios=("s" * 90, "t"),
)


@pytest.mark.parametrize("columns", [80, 50])
def test_only_what_cannot_be_parted_is_wider_than_the_terminal(columns):
    verdict = msgspec.structs.replace(FAIL, causes=(LONG,))
    layout = TextLayout(columns=columns)
    shown = render_verdict(verdict, form=Format.TEXT, strict=False, layout=layout)
    wide = [line.strip() for line in shown.splitlines() if len(line) > columns]
    kept = [f'"{"x" * 90}"', f"{LONG.location.file}:123", f"{'s' * 90},"]
    if columns == 50:
        kept.insert(2, "- override_kv_cache_dim=kv.device_pool.host_row_width,")
    assert wide[: len(kept)] == kept
    words = shown.split()
    assert "build_shared_anchor_stack;" in words
    assert shown.count("override_kv_cache_dim") == 3


def test_lines_of_both_sides_stand_below_the_place():
    lines = text(msgspec.structs.replace(FAIL, causes=(LONG,)), Format.TEXT).splitlines()
    place = lines.index(f"   {LONG.location.file}:123")
    assert lines[place - 1] == "   A row of device.KV.kv has 656 bytes; host.KV has rows of 576."
    assert lines[place + 1] == "     - override_kv_cache_dim=kv.device_pool.host_row_width,"
    same = msgspec.structs.replace(
        LONG.source, before=("    stack.wait()",), after=("    stack.wait()",)
    )
    control = msgspec.structs.replace(LONG, source=same)
    lines = text(msgspec.structs.replace(FAIL, causes=(control,)), Format.TEXT).splitlines()
    assert lines[place + 1] == "       stack.wait()"


def test_lines_of_both_sides_are_in_every_form_for_people():
    verdict = msgspec.structs.replace(FAIL, causes=(LONG,))
    lost = "- override_kv_cache_dim=kv.device_pool.host_row_width,"
    assert lost in text(verdict, Format.GITHUB)
    assert f"- `{lost}`\n" in text(verdict, Format.MARKDOWN)
    assert lost in text(verdict, Format.JUNIT)
    assert lost in text(verdict, Format.SARIF)


def test_place_is_a_link_on_a_terminal_when_the_file_is_there(tmp_path):
    (tmp_path / "assembler").mkdir()
    (tmp_path / "assembler" / "stacks.py").write_text("")
    link = "\x1b]8;id="
    target = f";file://{tmp_path}/assembler/stacks.py#123\x1b\\"

    def shown(**settings):
        layout = TextLayout(**settings)
        return render_verdict(FAIL, form=Format.TEXT, strict=False, layout=layout)

    assert link in shown(coloured=True, root=tmp_path)
    assert target in shown(coloured=True, root=tmp_path)
    assert link not in shown(coloured=True, root=tmp_path / "elsewhere")
    assert link not in shown(coloured=False, root=tmp_path)
    assert "   assembler/stacks.py:123\n" in shown(coloured=False, root=tmp_path)


def test_level_is_told_in_words_where_it_does_not_fail():
    verdict = msgspec.structs.replace(FAIL, causes=(CAUSE, INTERFACE))
    shown = text(verdict, Format.TEXT)
    assert "1. argument_dropped  override" in shown
    assert "2. argument_added (interface)  override" in shown
    assert shown.endswith(
        "\n\nFAIL  2 causes (1 behaviour, 1 interface), 2 of 41 scenarios changed\n"
    )


def test_text_is_short_when_all_is_well():
    assert text(PASS, Format.TEXT) == (
        "PASS  native: worktree against golden\n41 scenarios played, 39 unchanged, 2 changed\n"
    )


def test_colours_come_only_when_asked_for():
    assert "\x1b[" not in text(FAIL, Format.TEXT)
    assert text(FAIL, Format.TEXT, coloured=True).startswith("\x1b[1;31mFAIL\x1b[0m")
    assert "\x1b[" not in text(FAIL, Format.MARKDOWN, coloured=True)


def test_revision_is_shown_with_the_head_of_its_commit():
    base = {"side": "HEAD~1", "commit": "0123456789abcdef0123"}
    verdict = msgspec.structs.replace(PASS, base=base)
    assert text(verdict, Format.TEXT).startswith(
        "PASS  native: worktree against HEAD~1 (0123456789ab)\n"
    )


def test_very_long_value_keeps_both_ends():
    cause = msgspec.structs.replace(CAUSE, before="x" * 500 + "end")
    shown = text(msgspec.structs.replace(FAIL, causes=(cause,)), Format.TEXT)
    assert 'xend" -> nothing' in shown
    assert max(map(len, shown.splitlines())) < 140


def test_json_is_the_verdict():
    assert json.loads(text(FAIL, Format.JSON))["causes"][0]["parameter"] == "override_kv_cache_dim"


BOTH = msgspec.structs.replace(FAIL, problems=("a: is wrong", "b: is wrong"))


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        (Format.TEXT, "2 changed\n1 of 41 was run now: x\n"),
        (Format.MARKDOWN, "2 changed. 1 of 41 was run now: x.\n"),
        (Format.GITHUB, "2 changed. 1 of 41 was run now: x."),
        (Format.SARIF, "2 changed. 1 of 41 was run now: x"),
    ],
)
def test_what_was_run_is_a_sentence_of_its_own(form, shown):
    partly = msgspec.structs.replace(FAIL, selection="1 of 41 was run now: x")
    assert shown in text(partly, form)


def test_source_line_is_wrapped_behind_its_mark():
    source = SourceHunk(
        file="a.py", base_line=1, head_line=1, before=("if a and " * 9 + "b:",), after=("b",)
    )
    verdict = msgspec.structs.replace(FAIL, causes=(msgspec.structs.replace(LONG, source=source),))
    lines = render_verdict(
        verdict, form=Format.TEXT, strict=False, layout=TextLayout(columns=60)
    ).splitlines()
    first = lines.index("     - if a and if a and if a and if a and if a and if a and")
    assert lines[first + 1 : first + 3] == ["         if a and if a and if a and b:", "     + b"]


def test_text_ends_with_problems_after_the_last_cause():
    lines = text(BOTH, Format.TEXT).splitlines()
    alone = text(FAIL, Format.TEXT).splitlines()
    assert lines[:18] == alone[:18]
    assert lines[3] == "1. argument_dropped  override_kv_cache_dim  656 -> nothing"
    assert lines[18:] == ["", "problem  a: is wrong", "problem  b: is wrong", *alone[18:]]


def test_text_starts_with_problems_where_nothing_else_is_said():
    assert text(ERROR, Format.TEXT).splitlines()[2:] == ["", "problem  a: 100% gone", "bad"]


def test_lost_scenarios_are_a_list_of_single_lines():
    lost = [
        msgspec.structs.replace(
            INTERFACE,
            kind=Kind.SCENARIO_REMOVED,
            where=name,
            parameter=None,
            before=name,
            after=None,
            scenarios=(name,),
        )
        for name in ("nsa_fp8", "swa_gemma3")
    ]
    verdict = msgspec.structs.replace(FAIL, causes=(CAUSE, *lost))
    assert (
        "   2 scenarios: nsa_fp8, nsa_fp8_direct\n\n"
        "2. scenario_removed (interface)  nsa_fp8\n3. scenario_removed (interface)  swa_gemma3\n"
    ) in text(verdict, Format.TEXT)


def test_many_scenarios_are_counted_exactly():
    cause = msgspec.structs.replace(CAUSE, scenarios=tuple("abcdefgh"))
    shown = text(msgspec.structs.replace(FAIL, causes=(cause,)), Format.TEXT)
    assert "8 scenarios: a, b, c and 5 more\n" in shown


MADE = msgspec.structs.replace(
    FAIL,
    causes=(
        msgspec.structs.replace(
            CAUSE,
            consequences=(),
            made_by=(
                SourceHunk(
                    file="assembler/stacks.py",
                    base_line=120,
                    head_line=121,
                    before=("    width=width,", "    dim=dim,"),
                    after=("    width=width | 1,", "    dim=None,"),
                ),
            ),
        ),
    ),
)


def test_hunk_that_makes_a_cause_is_shown_with_the_lines_of_both_sides():
    told = text(MADE, Format.TEXT)
    shown = [line.strip() for line in told.splitlines()]
    start = shown.index("made by assembler/stacks.py:121-122")
    assert shown[start + 1 : start + 5] == [
        "- width=width,",
        "- dim=dim,",
        "+ width=width | 1,",
        "+ dim=None,",
    ]
    assert "made by" not in text(FAIL, Format.TEXT)


def test_hunk_that_makes_a_cause_has_its_lines_in_json():
    [cause] = json.loads(text(MADE, Format.JSON))["causes"]
    assert cause["made_by"] == [
        {
            "file": "assembler/stacks.py",
            "base_line": 120,
            "head_line": 121,
            "before": ["    width=width,", "    dim=dim,"],
            "after": ["    width=width | 1,", "    dim=None,"],
        }
    ]
