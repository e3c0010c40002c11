"""Rendering of a verdict as JUnit XML, which CI systems show as tests."""

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from traces.schema.verdict import Cause, Verdict
from traces.text import phrases


def render_junit(verdict: Verdict, *, strict: bool) -> str:
    """Return one suite with a test for each scenario, and one more for what concerns none.

    A scenario fails with the causes that show in it; differences of the interface fail only when
    ``strict`` and are written to the test's output otherwise. Problems are errors.
    """
    suite = TestSuite(f"goldentrace {verdict.target}")
    by_scenario: dict[str, list[Cause]] = {name: [] for name in verdict.scenarios.names}
    general: list[Cause] = []
    for cause in verdict.causes:
        for name in cause.scenarios:
            by_scenario.setdefault(name, []).append(cause)
        if not cause.scenarios:
            general.append(cause)
    for name, causes in sorted(by_scenario.items()):
        suite.add_testcase(_scenario_test(name, causes, target=verdict.target, strict=strict))
    verdict_test = _scenario_test("verdict", general, target=verdict.target, strict=strict)
    verdict_test.result = [
        *verdict_test.result,
        *(_entry(Error(problem, "problem"), problem) for problem in verdict.problems),
    ]
    suite.add_testcase(verdict_test)
    document = JUnitXml("goldentrace")
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]  # the library has no types there
    text: bytes = document.tostring()  # type: ignore[no-untyped-call]
    return text.decode() + "\n"


def _scenario_test(name: str, causes: list[Cause], *, target: str, strict: bool) -> TestCase:
    test = TestCase(name, classname=f"goldentrace.{target}", time=0)
    test.result = [
        _entry(Failure(phrases.detail_lines(cause)[0], cause.kind), _whole_text(cause))
        for cause in causes
        if cause.fails(strict=strict)
    ]
    shown = [_whole_text(cause) for cause in causes if not cause.fails(strict=strict)]
    if shown:
        test.system_out = "\n\n".join(shown)
    return test


def _entry(result: Failure | Error, text: str) -> Failure | Error:
    result.text = text
    return result


def _whole_text(cause: Cause) -> str:
    return "\n".join(
        [cause.kind, phrases.place_text(cause) or "no line", *phrases.detail_lines(cause)]
    )
