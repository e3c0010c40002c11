"""Which sites of a release are run, and why the others are not."""

from tools.mutation.generator import MutantDraft, MutationScope
from tools.mutation.mutant import LineRange
from tools.mutation.release import KINDS
from tools.mutation.release.selection import draft_files, select_drafts


def draft(kind, line, *, file="a.py", function=(1, 9)):
    return MutantDraft(
        operator=kind,
        key=f"{kind} {line}",
        changed_ranges=(LineRange(file=file, first=line, last=line),),
        functions=(LineRange(file=file, first=function[0], last=function[1]),),
        parameters=(),
        edits={},
    )


def test_executed_sites_are_drawn_one_of_each_kind_in_turn_the_same_for_a_seed():
    drafts = [*(draft("wait", line) for line in (2, 3, 4)), draft("fence", 5)]
    reached = {"a.py": frozenset(range(1, 10))}
    chosen, _ = select_drafts(drafts, reached, seed=1)
    assert [one.operator for one in chosen] == ["wait", "fence", "wait", "wait"]
    assert chosen == select_drafts(drafts, reached, seed=1)[0]
    others = [select_drafts(drafts, reached, seed=seed)[0] for seed in range(9)]
    assert any(other != chosen for other in others)


def test_sites_that_no_scenario_executes_are_counted_by_reason():
    drafts = [
        draft("wait", 2),
        draft("wait", 3),
        draft("wait", 22, function=(20, 29)),
        draft("wait", 2, file="b.py"),
    ]
    chosen, [unexecuted] = select_drafts(drafts, {"a.py": frozenset({1, 2})}, seed=0)
    assert chosen == [drafts[0]]
    assert unexecuted.sites == 4
    assert unexecuted.reasons == {
        "scenarios call the function and do not come to the line": 1,
        "no scenario calls the function": 1,
        "no scenario calls a function of the file": 1,
    }


def test_files_are_searched_in_other_processes_with_one_result(tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("def get(self):\n    self.wait_until(3)\n    return 1\n")
    scope = MutationScope(
        files=("a.py", "b.py"), wiring_paths=(), wiring_functions=(), ordering_paths=()
    )
    found = draft_files(tmp_path, scope, {"drop_wait": KINDS["drop_wait"]}, workers=2)
    assert [one.key for one in found] == [
        "a.py get without self.wait_until(3)",
        "b.py get without self.wait_until(3)",
    ]
