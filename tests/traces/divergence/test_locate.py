"""Places where two versions of a small package first diverge."""

from twosided_stack import effect, line_of

from traces.schema.model import Location
from traces.schema.verdict import Kind

FILE = "twosided/stack.py"


def place(cause):
    return cause.location.file, cause.location.line


def test_value_that_no_trace_holds_is_found_where_it_is_passed(look):
    change = ("row_bytes(width, 2)", "row_bytes(width, 3)")
    cause = look(change)
    assert cause.kind is Kind.ARGUMENT_CHANGED
    assert (cause.callee, cause.parameter) == ("row_bytes", "size")
    assert (cause.before, cause.after) == (2, 3)
    assert place(cause) == (FILE, line_of("row_bytes(width, 3)", change))
    assert cause.builder == "build"


def test_effect_becomes_a_consequence(look):
    cause = look(("row_bytes(width, 2)", "row_bytes(width, 3)"))
    [first] = cause.consequences
    assert (first.kind, first.where) == (Kind.DIGEST_CHANGED, "device.KV in backup")
    assert cause.message == (
        "A second run with all calls logged first differs in build, at the argument size of "
        "row_bytes. The trace shows it at elsewhere.py:1."
    )


def test_equal_sides_leave_a_cause_as_it_is(look):
    cause = effect()
    assert look(cause=cause) is cause


def test_cause_that_names_the_argument_stays_as_it_is(look):
    change = ("row_bytes(width, 2)", "row_bytes(width, 3)")
    line = line_of("row_bytes(width, 3)", change)
    known = effect(
        kind=Kind.ARGUMENT_CHANGED,
        parameter="size",
        callee="row_bytes",
        location=Location(file=FILE, line=line),
    )
    assert look(change, cause=known) is known


def test_swapped_callables_are_told_apart(look):
    change = (
        "on_full=full_of(pool), on_empty=empty_of(pool)",
        "on_full=empty_of(pool), on_empty=full_of(pool)",
    )
    cause = look(change)
    assert (cause.callee, cause.parameter) == ("Controller", "on_full")


def test_callables_swapped_on_the_way_down_are_told_apart(look):
    in_between = (
        ("    return Controller(pool, on_full", "    return made(pool, on_full"),
        (
            "def row_bytes",
            (
                "def made(pool, on_full, on_empty):\n"
                "    return Controller(pool, on_full, on_empty)\n\n\ndef row_bytes"
            ),
        ),
        ("    return controller.drop(1)\n", ""),
    )
    swap = (
        "on_full=full_of(pool), on_empty=empty_of(pool)",
        "on_full=empty_of(pool), on_empty=full_of(pool)",
    )
    cause = look(*in_between, swap, base=in_between)
    assert (cause.callee, cause.parameter) == ("made", "on_full")


def test_swapped_lambdas_are_told_apart_by_what_they_refer_to(look):
    lambdas = (
        "on_full=full_of(pool), on_empty=empty_of(pool)",
        "on_full=lambda n: full_of(pool)(n), on_empty=lambda n: empty_of(pool)(n)",
    )
    swap = (
        lambdas[1],
        "on_full=lambda n: empty_of(pool)(n), on_empty=lambda n: full_of(pool)(n)",
    )
    cause = look(lambdas, swap, base=(lambdas,))
    assert (cause.callee, cause.parameter) == ("Controller", "on_full")


def test_callable_in_a_wrapper_is_no_difference(look):
    wrapped = (
        "on_full=full_of(pool), on_empty",
        "on_full=lambda number: full_of(pool)(number), on_empty",
    )
    cause = look(wrapped)
    assert (cause.kind, cause.callee, cause.parameter) == (Kind.DIGEST_CHANGED, None, None)
    fault = ("row_bytes(width, 2)", "row_bytes(width, 3)")
    assert look(wrapped, fault).parameter == "size"


def test_lost_call_is_placed_where_it_stood(look):
    change = ("        self.flush()\n\n    def flush", "        pass\n\n    def flush")
    cause = look(change)
    assert cause.kind is Kind.CALL_REMOVED
    assert (cause.callee, cause.builder) == ("Controller.flush", "Controller.write")
    assert place(cause) == (FILE, line_of("        pass", change))


def test_lost_transfer_keeps_its_kind_and_gets_a_line(look):
    change = ("        self.flush()\n\n    def flush", "        pass\n\n    def flush")
    lost = effect(kind=Kind.TRANSFER_REMOVED, where="backup KV.kv layer 0", before={}, after=None)
    cause = look(change, cause=lost)
    assert (cause.kind, cause.where) == (Kind.TRANSFER_REMOVED, "backup KV.kv layer 0")
    assert place(cause) == (FILE, line_of("        pass", change))


def test_call_given_what_a_later_one_is_given_is_not_told_as_lost(look):
    twice = ("    layers = [0, 1, 2]\n", "    layers = [0, 1, 2]\n    move(4)\n    move(5)\n")
    fault = ("    move(4)\n", "    move(5)\n")
    cause = look(twice, fault, base=(twice,))
    assert (cause.kind, cause.callee, cause.parameter) == (Kind.ARGUMENT_CHANGED, "move", "number")
    assert (cause.before, cause.after) == (4, 5)
    lost = look(twice, ("    move(4)\n", ""), base=(twice,))
    assert lost.kind is Kind.CALL_REMOVED


def test_lost_wait_for_what_stands_in_for_a_device_is_placed_where_it_stood(look):
    change = ('        wait("copies", id(self))\n', "")
    lost = effect(kind=Kind.ORDER_EDGE_REMOVED, where="wait in reload", before={}, after=None)
    cause = look(change, cause=lost)
    assert (cause.kind, cause.where) == (Kind.ORDER_EDGE_REMOVED, "wait in reload")
    assert place(cause) == (FILE, line_of('        wait("loads"', change))


def test_wait_for_another_stream_is_told_as_its_argument(look):
    change = ('wait("copies"', 'wait("loads"')
    cause = look(change)
    assert (cause.callee, cause.parameter) == ("wait", "stream")
    assert (cause.before, cause.after) == ("copies", "loads")
    assert place(cause) == (FILE, line_of('wait("loads"', change))


def test_value_known_by_its_use_is_placed_where_it_is_made(look):
    change = ("layers = [0, 1, 2]", "layers = [0, 1, 3]")
    use = ("pool = Pool(layers,", "pool = Pool(layers=layers, row_bytes=row_bytes(width, 2))#")
    known = effect(kind=Kind.ARGUMENT_CHANGED, parameter="layers", callee="Pool")
    cause = look(use, change, base=(use,), cause=known)
    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_CHANGED, "layers")
    assert place(cause) == (FILE, line_of("layers = [0, 1, 3]", use, change))


def test_loop_that_ends_too_early_is_placed_at_its_header(look):
    change = ("in range(3)", "in range(2)")
    cause = look(change)
    assert place(cause) == (FILE, line_of("range(2)", change))


def test_line_that_computes_another_value_is_found(look):
    change = ("layers = [0, 1, 2]", "layers = [1, 1, 2]")
    cause = look(change)
    assert place(cause) == (FILE, line_of("layers = [1", change))
    assert cause.parameter == "layers"


def test_attribute_set_in_another_way_is_found_at_its_line(look):
    change = ("self.row_bytes = row_bytes", "self.row_bytes = row_bytes + 1")
    cause = look(change)
    assert place(cause) == (FILE, line_of("row_bytes + 1", change))


def test_swapped_statements_are_found(look):
    change = (
        "        self.queue.append(number)\n        self.flush()\n",
        "        self.flush()\n        self.queue.append(number)\n",
    )
    cause = look(change)
    first = line_of("        self.flush()\n        self.queue", change)
    assert cause.location.file == FILE
    assert cause.location.line in (first, first + 1)


NEUTRAL = (
    # A comment above, a renamed helper, an extracted one and a layer in between.
    ('"""A pool, a controller and the builder of both."""', '"""Words."""\n\n# A comment\n# more'),
    ("full_of(", "filled("),
    ("    controller = build(8)\n", "    controller = made()\n"),
    ("def run():", "def made():\n    return build(8)\n\n\ndef run():"),
)


def test_harmless_refactors_beside_a_fault_are_passed_over(look):
    fault = ("row_bytes(width, 2)", "row_bytes(width, 3)")
    cause = look(*NEUTRAL, fault)
    assert (cause.callee, cause.parameter) == ("row_bytes", "size")
    assert place(cause) == (FILE, line_of("row_bytes(width, 3)", *NEUTRAL, fault))


def test_harmless_refactors_alone_leave_a_cause_as_it_is(look):
    cause = effect()
    assert look(*NEUTRAL, cause=cause) is cause


def test_lost_parameter_is_named(look):
    changes = (
        ("def row_bytes(width, size):\n", "def row_bytes(width):\n    size = 1\n"),
        ("row_bytes(width, 2)", "row_bytes(width)"),
    )
    cause = look(*changes)
    assert (cause.kind, cause.parameter) == (Kind.PARAMETER_REMOVED, "size")


def test_renamed_parameter_is_no_lost_one(look):
    changes = (("def row_bytes(width, size):\n    return width * size",
                "def row_bytes(width, bytes_each):\n    return width * bytes_each"),)  # fmt: skip
    cause = look(*changes)
    assert (cause.kind, cause.callee, cause.parameter) == (Kind.DIGEST_CHANGED, None, None)


IN_A_MAPPING = (
    (
        "    pool = Pool(layers, row_bytes(width, 2))",
        "    shared = dict(layers=layers, size=2)\n    pool = made(shared, width)",
    ),
    (
        "def row_bytes",
        (
            "def made(shared, width):\n"
            "    size = shared.get('size', 1)\n"
            "    return Pool(shared['layers'], row_bytes(width, size))\n\n\ndef row_bytes"
        ),
    ),
)


def test_changed_field_of_a_mapping_is_named(look):
    change = ("size=2)", "size=3)")
    cause = look(*IN_A_MAPPING, change, base=IN_A_MAPPING)
    assert (cause.kind, cause.callee) == (Kind.ARGUMENT_CHANGED, "made")
    assert (cause.parameter, cause.before, cause.after) == ("shared.size", 2, 3)
    assert place(cause) == (FILE, line_of("size=3)", *IN_A_MAPPING, change))


def test_lost_field_of_a_mapping_is_a_dropped_argument(look):
    cause = look(*IN_A_MAPPING, (", size=2)", ")"), base=IN_A_MAPPING)
    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_DROPPED, "shared.size")
    assert (cause.before, cause.after) == (2, None)
    added = look(*IN_A_MAPPING, base=(*IN_A_MAPPING, (", size=2)", ")")))
    assert (added.kind, added.parameter) == (Kind.ARGUMENT_ADDED, "shared.size")


def test_field_of_a_mapping_is_told_as_the_published_parameter_it_becomes(look):
    change = ("size=2)", "size=3)")
    known = effect(kind=Kind.ARGUMENT_CHANGED, parameter="size", callee="row_bytes")
    cause = look(*IN_A_MAPPING, change, base=IN_A_MAPPING, cause=known)
    assert (cause.callee, cause.parameter) == ("row_bytes", "size")
    assert place(cause) == (FILE, line_of("size=3)", *IN_A_MAPPING, change))


def test_swapped_numbers_of_a_generated_constructor_are_found(look):
    record = (
        (
            "class Pool:",
            (
                "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\n"
                "class Size:\n    width: int\n    rows: int\n\n\nclass Pool:"
            ),
        ),
        ("row_bytes(width, 2)", "bytes_of(Size(width=width, rows=2))"),
        ("def row_bytes", "def bytes_of(size):\n    return size.width + 1\n\n\ndef row_bytes"),
    )
    swap = ("Size(width=width, rows=2)", "Size(width=2, rows=width)")
    cause = look(*record, swap, base=record)
    assert (cause.callee, cause.parameter) == ("Size", "width")
    assert (cause.before, cause.after) == (8, 2)
    assert place(cause) == (FILE, line_of("Size(width=2", *record, swap))


def test_method_of_another_dictionary_is_another_callable(look):
    bound = (
        ("on_full=full_of(pool)", "on_full=dict.fromkeys(layers).get"),
        ("    layers = [0, 1, 2]\n", "    layers = [0, 1]\n    layers.append(2)\n"),
    )
    known = effect(kind=Kind.ARGUMENT_CHANGED, parameter="layers", callee="Pool")
    change = ("dict.fromkeys(layers).get", "dict.fromkeys(layers[1:]).get")
    cause = look(*bound, change, base=bound, cause=known)
    assert (cause.callee, cause.parameter) == ("Controller", "on_full")
    assert look(*bound, base=bound, cause=known) is known


CHECKED = (
    (
        "        self.queue.append(number)",
        "        check(number)\n        self.queue.append(number)",
    ),
    (
        "def row_bytes",
        (
            "def check(number):\n    if number > 5:\n        raise ValueError(number)\n\n\n"
            "def row_bytes"
        ),
    ),
    (
        "def run():",
        (
            "def run():\n    try:\n        run_all()\n"
            "    except ValueError:\n        return\n\n\ndef run_all():"
        ),
    ),
)


def test_call_that_raises_is_told_from_one_that_returns_nothing(look):
    change = ("if number > 5", "if number < 5")
    cause = look(*CHECKED, change, base=CHECKED)
    assert place(cause) == (FILE, line_of("if number < 5", *CHECKED, change))


def test_call_that_raises_on_both_sides_is_no_divergence(look):
    raising = (*CHECKED, ("if number > 5", "if number < 5"))
    cause = effect()
    assert look(*raising, base=raising, cause=cause) is cause


UNSTEADY = (
    "    layers = [0, 1, 2]\n",
    "    layers = [0, 1, 2]\n    unsteady()\n",
)
RUNS_BY_ITSELF = (
    "def row_bytes",
    (
        "def unsteady():\n"
        "    import sys\n"
        "    sys.unsteady = not getattr(sys, 'unsteady', False)\n"
        "    if sys.unsteady:\n"
        "        move(9)\n\n\n"
        "def row_bytes"
    ),
)
LOST = ("        self.flush()\n\n    def flush", "        pass\n\n    def flush")


def test_a_line_of_an_equal_function_is_no_better_place_than_one_of_a_changed_one(
    look, monkeypatch
):
    monkeypatch.setattr("sys.unsteady", False, raising=False)
    both = (UNSTEADY, RUNS_BY_ITSELF)
    lost = Location(file=FILE, line=line_of("        pass", *both, LOST))
    known = effect(kind=Kind.ORDER_EDGE_REMOVED, location=lost)

    assert look(*both, LOST, base=both, cause=known) is known


def test_nothing_is_told_of_what_is_unsteady_where_nothing_changed(look, monkeypatch):
    monkeypatch.setattr("sys.unsteady", False, raising=False)
    both = (UNSTEADY, RUNS_BY_ITSELF)
    known = effect(kind=Kind.ORDER_EDGE_REMOVED)

    assert look(*both, base=both, cause=known) is known
