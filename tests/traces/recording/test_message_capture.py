import logging
import sys
import warnings
from types import ModuleType

import pytest
from tinystack import stack

from traces.errors import RecorderError
from traces.recording.message_capture import capture_messages, settle_modules


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def tell(told):
    return lambda level, text: told.append((level, text))


def issue(text: str, *, module: str, stacklevel: int = 1) -> None:
    """Warn as a module of that name would."""
    code = f"def issue():\n    warnings.warn({text!r}, stacklevel={stacklevel})\n"
    namespace = {"__name__": module, "warnings": warnings}
    exec(compile(code, f"/{module}.py", "exec"), namespace)
    namespace["issue"]()


def import_module_that_warns(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a module as if from a file; it names ``warnings.warn`` in its own globals."""
    module = ModuleType(name)
    exec("from warnings import warn\n\ndef issue():\n    warn('late')\n", vars(module))
    monkeypatch.setitem(sys.modules, name, module)
    return module


def issue_all(*modules: ModuleType) -> None:
    for module in modules:
        module.issue()


def test_modules_imported_before_and_behind_the_settling_are_told(told, tell, monkeypatch):
    early = import_module_that_warns("settledstack.early", monkeypatch)
    settle_modules("settledstack")
    late = import_module_that_warns("settledstack.late", monkeypatch)
    other = import_module_that_warns("otherstack.late", monkeypatch)

    with (
        pytest.warns(UserWarning, match="late"),
        capture_messages("settledstack", tell, hidden=frozenset()),
    ):
        issue_all(early, late, other)

    assert told == [("warning", "late"), ("warning", "late")]


def test_warnings_of_the_package_are_told_and_still_issued(told, tell):
    with (
        pytest.warns(UserWarning, match="slow"),
        capture_messages("tinystack", tell, hidden=frozenset()),
    ):
        issue("slow", module="tinystack.stack")

    assert told == [("warning", "slow")]


def test_warnings_of_others_are_not_told(told, tell):
    with (
        pytest.warns(UserWarning, match="other"),
        capture_messages("tinystack", tell, hidden=frozenset()),
    ):
        issue("other", module="tinystackless")

    assert told == []


def test_filters_and_repetition_decide_nothing(told, tell):
    with (
        warnings.catch_warnings(record=True) as caught,
        capture_messages("tinystack", tell, hidden=frozenset()),
    ):
        warnings.simplefilter("ignore")
        issue("same", module="tinystack")
        issue("same", module="tinystack")

    assert caught == []
    assert told == [("warning", "same"), ("warning", "same")]


def test_warning_turned_into_an_error_is_told_and_raised(told, tell):
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(UserWarning, match="fatal"),
        capture_messages("tinystack", tell, hidden=frozenset()),
    ):
        issue("fatal", module="tinystack")

    assert told == [("warning", "fatal")]


@pytest.mark.parametrize(("stacklevel", "file"), [(1, "/tinystack.py"), (2, __file__)])
def test_stacklevel_points_where_it_did(tell, stacklevel, file):
    with (
        warnings.catch_warnings(record=True) as caught,
        capture_messages("tinystack", tell, hidden=frozenset()),
    ):
        warnings.simplefilter("always")
        issue("where", module="tinystack", stacklevel=stacklevel)

    assert [warning.filename for warning in caught] == [file]


def test_function_imported_by_name_is_heard_too(told, tell, monkeypatch):
    monkeypatch.setattr(stack, "warn", warnings.warn, raising=False)

    wanted = pytest.warns(UserWarning, match="copied")
    with wanted, capture_messages("tinystack", tell, hidden=frozenset()):
        exec("warn('copied')", {"warn": stack.warn, "__name__": "tinystack.copy"})

    assert told == [("warning", "copied")]
    assert stack.warn is warnings.warn


def test_log_records_of_the_package_from_warning_up(told, tell):
    with capture_messages("tinystack", tell, hidden=frozenset()):
        logging.getLogger("tinystack.deep").warning("low on %s", "slots")
        logging.getLogger("tinystack").error("gone")
        logging.getLogger("tinystack").info("quiet")
        logging.getLogger("other").warning("not ours")

    assert told == [("warning", "low on slots"), ("error", "gone")]
    logging.getLogger("tinystack").warning("after the block")
    assert len(told) == 2


def test_logger_that_lets_no_warning_through_is_an_error(tell):
    logger = logging.getLogger("tinystack")
    logger.setLevel(logging.ERROR)
    try:
        with (
            pytest.raises(RecorderError) as caught,
            capture_messages("tinystack", tell, hidden=set()),
        ):
            pass
    finally:
        logger.setLevel(logging.NOTSET)

    assert str(caught.value) == (
        "logger tinystack: must let warnings through; expected WARNING, got ERROR"
    )


def test_disabled_logging_is_an_error(tell):
    logging.disable(logging.CRITICAL)
    try:
        with pytest.raises(RecorderError, match=r"expected WARNING, got logging\.disable"):
            with_nothing(tell)
    finally:
        logging.disable(logging.NOTSET)


def with_nothing(tell):
    with capture_messages("tinystack", tell, hidden=frozenset()):
        pass


def test_warn_is_restored_also_after_an_exception(tell):
    original = warnings.warn

    with pytest.raises(KeyError), capture_messages("tinystack", tell, hidden=frozenset()):
        raise KeyError

    assert warnings.warn is original


def test_somebody_else_replacing_warn_is_an_error(tell, monkeypatch):
    original = warnings.warn

    with (
        pytest.raises(RecorderError, match="warnings: warn must stay while recording"),
        capture_messages("tinystack", tell, hidden=frozenset()),
    ):
        warnings.warn = print

    assert warnings.warn is original
