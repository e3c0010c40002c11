import functools
import inspect
import pickle
import threading
import time
from dataclasses import dataclass, field

import pytest

from traces.errors import InstrumentError
from traces.recording.instrument import TRAMPOLINE_FILE, instrumented, still_instrumented


class Seen:
    """A hook that writes down what it saw and calls the original."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __call__(self, original, args, kwargs):
        self.calls.append((original.__qualname__, args, kwargs))
        return original(*args, **kwargs)


def double(x, factor=2):
    return x * factor


copied = double
registry = {"double": double}
partial = functools.partial(double, factor=3)


class Base:
    def __init__(self, value):
        self.value = value

    def told(self):
        return f"base {self.value}"


class Derived(Base):
    def __init__(self, value, *, extra=0):
        super().__init__(value + extra)

    def told(self):
        return "derived " + super().told()

    @classmethod
    def made(cls, value):
        return cls(value)

    @staticmethod
    def plain(value):
        return value + 1

    @property
    def twice(self):
        return self.value * 2


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 7
    tags: list[str] = field(default_factory=list)


def make_closure(one, two):
    three = 3

    def closure(x):
        return x + one + two + three

    return closure


def factorial(n):
    return 1 if n == 0 else n * factorial(n - 1)


def failing():
    raise KeyError("gone")


def test_calls_are_seen_through_every_kind_of_reference():
    seen = Seen()
    bound_before = [copied, registry["double"], partial]

    with instrumented({double: seen}):
        results = [call(5) for call in bound_before]

    assert results == [10, 10, 15]
    assert seen.calls == [
        ("double", (5,), {}),
        ("double", (5,), {}),
        ("double", (5,), {"factor": 3}),
    ]


def test_given_default_and_omitted_default_differ():
    seen = Seen()

    with instrumented({double: seen}):
        double(1)
        double(1, 2)
        double(1, factor=2)

    assert [call[1:] for call in seen.calls] == [
        ((1,), {}),
        ((1, 2), {}),
        ((1,), {"factor": 2}),
    ]


def test_methods_with_super_class_methods_static_methods_and_properties():
    seen = Seen()
    held = Derived(1).told
    functions = [
        Derived.__init__,
        Derived.told,
        vars(Derived)["made"].__func__,
        Derived.plain,
        vars(Derived)["twice"].fget,
    ]

    with instrumented(dict.fromkeys(functions, seen)):
        made = Derived.made(4)
        results = [Derived(1, extra=2).told(), made.value, Derived.plain(1), made.twice, held()]

    assert results == ["derived base 3", 4, 2, 8, "derived base 1"]
    assert [name for name, _, _ in seen.calls] == [
        "Derived.made",
        "Derived.__init__",
        "Derived.__init__",
        "Derived.told",
        "Derived.plain",
        "Derived.twice",
        "Derived.told",
    ]


def test_generated_dataclass_constructor():
    seen = Seen()

    with instrumented({Point.__init__: seen}):
        point = Point(1)
        Point(x=2, y=3, tags=["a"])

    assert point == Point(1, 7, [])
    assert [(args[1:], kwargs) for _, args, kwargs in seen.calls] == [
        ((1,), {}),
        ((), {"x": 2, "y": 3, "tags": ["a"]}),
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 12])
def test_closures_with_any_number_of_free_variables(count):
    names = [f"v{number}" for number in range(count)]
    namespace: dict = {}
    source = (
        f"def outer({', '.join(names)}):\n"
        f"    def inner(x):\n        return [x, {', '.join(names)}]\n    return inner\n"
    )
    exec(source, namespace)
    inner = namespace["outer"](*range(count))
    seen = Seen()

    with instrumented({inner: seen}):
        assert inner("x") == ["x", *range(count)]

    assert len(seen.calls) == 1
    assert inner("x") == ["x", *range(count)]


def test_one_closure_is_seen_and_its_twin_is_not():
    first, twin = make_closure(1, 2), make_closure(10, 20)
    seen = Seen()

    with instrumented({first: seen}):
        assert (first(0), twin(0)) == (6, 33)

    assert len(seen.calls) == 1


def test_recursion_is_seen_at_every_level():
    seen = Seen()

    with instrumented({factorial: seen}):
        assert factorial(4) == 24

    assert [args for _, args, _ in seen.calls] == [(4,), (3,), (2,), (1,), (0,)]


def test_exceptions_pass_through():
    with instrumented({failing: Seen()}), pytest.raises(KeyError, match="gone"):
        failing()


def test_wrong_calls_raise_what_they_raised_without():
    with instrumented({double: Seen()}), pytest.raises(TypeError, match="unexpected keyword"):
        double(1, size=3)


def test_everything_is_restored_also_after_an_exception():
    code, attributes = double.__code__, dict(vars(double))

    with pytest.raises(KeyError), instrumented({double: Seen(), failing: Seen()}):
        failing()

    assert double.__code__ is code
    assert vars(double) == attributes
    assert still_instrumented() == ()
    assert double(2) == 4


def test_calling_hot_code_before_during_and_after():
    """The interpreter specialises hot calls; a replaced code object must not be missed by it."""

    def run():
        return [(Derived(number).told(), double(number)) for number in range(2000)]

    seen = Seen()
    expected = run()
    run()
    with instrumented({double: seen, Derived.__init__: seen, Base.__init__: seen}):
        assert run() == expected
    assert len(seen.calls) == 3 * 2000
    assert run() == expected
    assert len(seen.calls) == 3 * 2000


def test_signatures_stay_truthful_meanwhile():
    function, cls = inspect.signature(double), inspect.signature(Derived)

    with instrumented({double: Seen(), Derived.__init__: Seen()}):
        assert inspect.signature(double) == function
        assert inspect.signature(Derived) == cls
        assert inspect.getfullargspec(double).args == ["x", "factor"]


def test_pickling_by_reference_works_meanwhile():
    with instrumented({double: Seen()}):
        assert pickle.loads(pickle.dumps(double)) is double


def test_all_threads_are_seen():
    seen = Seen()

    with instrumented({double: seen}):
        threads = [threading.Thread(target=double, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(args[0] for _, args, _ in seen.calls) == list(range(8))


def test_call_that_outlives_the_block_ends_normally():
    entered, go_on = threading.Event(), threading.Event()
    results = []

    def slow():
        entered.set()
        go_on.wait(5)
        return "done"

    thread = threading.Thread(target=lambda: results.append(slow()))
    with instrumented({slow: Seen()}):
        thread.start()
        entered.wait(5)
    go_on.set()
    thread.join()

    assert results == ["done"]


def generator():
    yield 1


async def coroutine():
    return 1


async def async_generator():
    yield 1


@pytest.mark.parametrize("function", [generator, coroutine, async_generator])
def test_suspendable_functions_are_refused(function):
    with pytest.raises(InstrumentError) as caught, instrumented({function: Seen()}):
        pass

    assert str(caught.value) == (
        f"{function.__name__}: body must run in one go; expected a plain function, "
        "got a generator or coroutine function"
    )


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        (len, "builtin_function_or_method"),
        (partial, "partial"),
        (Derived, "type"),
        (Derived(1).told, "method"),
    ],
)
def test_what_is_no_python_function_is_refused(thing, kind):
    wanted = pytest.raises(InstrumentError, match=f"expected a function object, got {kind}")
    with wanted, instrumented({thing: Seen()}):
        pass


def test_refusal_of_one_changes_none():
    code = double.__code__

    with pytest.raises(InstrumentError), instrumented({double: Seen(), generator: Seen()}):
        pass

    assert double.__code__ is code
    assert still_instrumented() == ()


def test_instrumenting_twice_is_refused_and_the_first_stays():
    seen = Seen()

    with instrumented({double: seen}):
        wanted = pytest.raises(InstrumentError, match="double: must be instrumented once")
        with wanted, instrumented({double: Seen()}):
            pass
        assert still_instrumented() == ("double",)
        double(1)

    assert len(seen.calls) == 1


def test_code_replaced_by_others_meanwhile_is_reported_and_restored():
    code = double.__code__

    def other(x, factor=2):
        return "other"

    wanted = pytest.raises(InstrumentError, match="double: code must not change while")
    with wanted, instrumented({double: Seen()}):
        double.__code__ = other.__code__

    assert double.__code__ is code


def test_trampoline_frames_can_be_told_by_their_file():
    files = []

    def hook(original, args, kwargs):
        files.append(inspect.currentframe().f_back.f_code.co_filename)
        return original(*args, **kwargs)

    with instrumented({double: hook}):
        double(1)

    assert files == [TRAMPOLINE_FILE]


def test_no_cost_when_off():
    """Not a timing: the code object that runs afterwards is the very one that ran before."""
    before = {
        function: function.__code__ for function in (double, Derived.__init__, Point.__init__)
    }

    with instrumented(dict.fromkeys(before, Seen())):
        time.sleep(0)

    assert all(function.__code__ is code for function, code in before.items())
