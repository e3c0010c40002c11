"""Lines of both sides at a place: what differs in its statement, or its own line."""

from traces.divergence.source_comparison import SourceComparison
from traces.schema.model import Location
from traces.schema.verdict import SourceHunk

BASE = """\
def build(pool, group):
    stack = make(
        pool,
        page_size=64,
        override=pool.width,
    )
    stack.wait()
    return stack
"""


def lines_at(line: int, *, head: str | None, base: str | None = BASE) -> SourceHunk | None:
    texts = SourceComparison(base=lambda _: base, head=lambda _: head)
    return texts.lines_at(Location(file="pkg/stack.py", line=line))


def test_keyword_that_is_gone_is_found_from_the_first_line_of_its_call():
    hunk = lines_at(2, head=BASE.replace("        override=pool.width,\n", ""))
    assert hunk == SourceHunk(
        file="pkg/stack.py",
        base_line=5,
        head_line=5,
        before=("        override=pool.width,",),
        after=(),
    )


def test_changed_line_has_its_text_on_both_sides():
    hunk = lines_at(7, head=BASE.replace("stack.wait()", "stack.query()"))
    assert hunk is not None
    assert (hunk.before, hunk.after) == (("    stack.wait()",), ("    stack.query()",))
    assert (hunk.base_line, hunk.head_line) == (7, 7)


def test_statement_that_is_gone_is_found_at_the_line_that_follows_it():
    hunk = lines_at(7, head=BASE.replace("    stack.wait()\n", ""))
    assert hunk is not None
    assert (hunk.before, hunk.after) == (("    stack.wait()",), ())


def test_statement_that_does_not_differ_shows_its_own_line_though_others_do():
    head = "import torch\n" + BASE.replace("64", "32")
    hunk = lines_at(8, head=head)
    assert hunk is not None
    assert (hunk.before, hunk.after) == (("    stack.wait()",), ("    stack.wait()",))
    assert (hunk.base_line, hunk.head_line) == (7, 8)


def test_of_a_rewritten_function_only_the_statement_and_the_line_most_like_it_are_shown():
    base = "\n".join(f"    old_{n} = compute({n})" for n in range(9))
    head = "\n".join(f"    new_{n} = compute({n})  # {'x' * n}" for n in range(8))
    wrap = "def build():\n{}\n    return 1\n"
    hunk = lines_at(5, base=wrap.format(base), head=wrap.format(head))
    assert hunk is not None
    assert hunk.after == ("    new_3 = compute(3)  # xxx",)
    assert hunk.before == ("    old_3 = compute(3)",)
    assert (hunk.base_line, hunk.head_line) == (5, 5)


def test_file_that_one_side_lacks_has_the_line_of_the_other():
    only_head = lines_at(7, base=None, head=BASE)
    assert only_head is not None
    assert (only_head.before, only_head.after) == ((), ("    stack.wait()",))
    only_base = lines_at(7, head=None)
    assert only_base is not None
    assert (only_base.before, only_base.after) == (("    stack.wait()",), ())


def test_line_that_no_side_has_is_none():
    assert lines_at(99, head=BASE) is None
    assert lines_at(1, base=None, head=None) is None
    assert lines_at(8, head=BASE) is not None
