import subprocess
import sys
from pathlib import Path

from tinystack import pools

from traces import Recorder, Recording, Trace, diff, record

ROOT = Path(__file__).parents[2]


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def recorded(tiny, *, width: int) -> Recorder:
    with record(target=tiny) as recorder:
        pools.DevicePool(4, width=width)
    return recorder


def test_two_recordings_can_be_compared_in_any_form(tiny):
    narrow, wide = recorded(tiny, width=4), recorded(tiny, width=8)

    assert diff(narrow, recorded(tiny, width=4)) == ()
    (cause,) = diff(narrow, wide)
    assert (cause.callee, cause.parameter, cause.before, cause.after) == (
        "DevicePool",
        "width",
        4,
        8,
    )
    for base, head in ((narrow.recording, wide.recording), (narrow.trace, wide.recording)):
        assert [one.parameter for one in diff(base, head)] == ["width"]
    assert isinstance(narrow.trace, Trace)
    assert isinstance(narrow.recording, Recording)


def test_function_keeps_its_name_when_the_subpackage_is_imported():
    code = "import traces.diff.align, traces; from traces import diff; print(callable(diff))"

    assert run(code) == "True"


def test_importing_needs_no_torch():
    assert run("import sys, traces, traces.pytest.plugin; print('torch' in sys.modules)") == "False"


def test_recording_needs_nothing_that_comparing_needs():
    code = (
        "import sys; sys.modules['patiencediff'] = None\n"
        "import traces\n"
        "try: traces.diff(None, None)\n"
        "except ModuleNotFoundError as error: print(error)"
    )

    assert run(code) == "diff: needs patiencediff; expected it installed, got none"
