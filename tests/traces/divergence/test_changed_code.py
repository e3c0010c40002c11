"""A scenario that executes changed lines in one place only has its cause there."""

import msgspec
from twosided_stack import effect, line_of

from traces.schema.model import Location

FILE = "twosided/stack.py"
# Another value in every run: what an address or a random number is to the comparison.
NOISE = (
    (
        "from twosided_stack import wait",
        "import itertools\nimport os\n\nfrom twosided_stack import wait",
    ),
    (
        "def build(width):",
        "def drawn():\n    return os.urandom(8).hex()\n\n\ndef build(width):\n    drawn()",
    ),
)
LOST_LINE = ("        self.queue.clear()\n", "")


def place(cause):
    return cause.location.file, cause.location.line


def test_value_that_differs_in_every_run_is_not_taken_for_the_cause(look):
    fault = ('wait("loads", id(self))', 'wait("stores", id(self))')

    cause = look(*NOISE, fault, base=NOISE)

    assert place(cause) == (FILE, line_of('wait("stores"', *NOISE, fault))


def test_lines_that_are_gone_are_told_where_they_were(look):
    cause = look(LOST_LINE)

    assert place(cause) == (FILE, line_of("    def drop", LOST_LINE) - 1)


def test_change_in_a_function_that_is_not_called_does_not_count(look):
    added = ("def full_of", "def never_called(pool):\n    return 1\n\n\ndef full_of")
    other = (added[0], added[1].replace("return 1", "return 2"))
    constant = ("        return self.on_full(number)", "        return self.on_full(number + 1)")

    cause = look(other, constant, base=(added,))

    assert place(cause) == (FILE, line_of("number + 1", other, constant))


def test_change_of_a_comment_does_not_count(look):
    comment = ("def move(number):", "# Moves one page.\ndef move(number):")
    constant = ("        return self.on_full(number)", "        return self.on_full(number + 1)")

    cause = look(comment, constant)

    assert place(cause) == (FILE, line_of("number + 1", comment, constant))


def test_value_of_a_module_counts(look):
    body = "def row_bytes(width, size):\n    return width * size"
    constant = (body, f"SCALE = 1\n\n\n{body} * SCALE")
    other = (constant[0], constant[1].replace("SCALE = 1", "SCALE = 2"))

    cause = look(other, base=(constant,))

    assert place(cause) == (FILE, line_of("SCALE = 2", other))


def test_two_changes_that_are_executed_are_told_apart_by_the_calls(look):
    argument = ("row_bytes(width, 2)", "row_bytes(width, 3)")
    constant = ("        return self.on_full(number)", "        return self.on_full(number + 1)")

    cause = look(argument, constant)

    assert (cause.parameter, place(cause)) == (
        "size",
        (FILE, line_of("row_bytes(width, 3)", argument, constant)),
    )


def test_lines_that_moved_are_one_change_at_the_place_that_is_run_first(look):
    clear = "        self.queue.clear()\n"
    base = ((clear, f"{clear}        self.size = 0\n"),)
    moved = (
        ("        self.queue = []\n", "        self.queue = []\n        self.size = 0\n"),
        (f"{clear}        self.size = 0\n", clear),
    )

    cause = look(*base, *moved, base=base)

    assert place(cause) == (FILE, line_of("        self.size = 0", *base, *moved))


def test_of_two_changes_that_no_call_shows_the_first_that_is_run_is_named_and_the_other_told(look):
    one = ("        self.queue = []", "        self.queue = list()")
    other = ("        return self.on_full(number)", "        return (self.on_full)(number)")

    cause = look(one, other)

    assert place(cause) == (FILE, line_of("self.queue = list()", one, other))
    line = line_of("(self.on_full)(number)", one, other)
    told = f"The scenario also executes the change at {FILE}:{line}."
    assert cause.message == f"device.KV differs. {told}"


def test_gaps_in_one_statement_are_one_change(look):
    sum_of = "        total = (\n            number\n            + number\n        )\n"
    call = "        return self.on_full(number)"
    base = ((call, f"{sum_of}{call}"),)
    changed = (
        (call, f"{sum_of.replace('= (', '= 1 * (').replace('        )', '        ) * 1')}{call}"),
    )

    cause = look(*changed, base=base)

    assert place(cause) == (FILE, line_of("total = 1 * (", *changed))
    assert cause.message == "device.KV differs. The scenario executes no other change."


def test_many_changes_that_no_call_shows_leave_a_cause_as_it_is(look):
    changes = (
        ("        self.queue = []", "        self.queue = list()"),
        ("        return self.on_full(number)", "        return (self.on_full)(number)"),
        ("    return width * size", "    return (width) * size"),
        ("        self.queue.clear()", "        (self.queue).clear()"),
    )

    assert look(*changes).message == "device.KV differs."


def test_of_many_changes_the_one_in_the_function_of_the_cause_is_named(look):
    changes = (
        ("        self.queue = []", "        self.queue = list()"),
        ("        return self.on_full(number)", "        return (self.on_full)(number)"),
        ("    return width * size", "    return (width) * size"),
        ("        self.queue.clear()", "        (self.queue).clear()"),
    )
    line = line_of("        return (self.on_full)(number)", *changes)

    # Its location is the line above, that of the function's name.
    effect_there = msgspec.structs.replace(effect(), location=Location(file=FILE, line=line - 1))
    cause = look(*changes, cause=effect_there)

    assert place(cause) == (FILE, line)
    assert cause.message.startswith("device.KV differs. The scenario also executes the change at ")
    assert cause.message.endswith(" and 1 more.")
