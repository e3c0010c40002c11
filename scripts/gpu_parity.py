"""Compare traces recorded in simulation with those of a GPU, scenario by scenario.

`python -m scripts.gpu_parity SIMULATED REAL` reads two directories filled by `goldentrace record`.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from scripts.gpu_differences import GpuComparison, compare_with_gpu
from tools.errors import ToolError
from tools.goldens.golden_set import golden_names
from traces.pytest.golden_files import golden_path
from traces.schema.canonical import read_recording


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is equal and what is not; return 1 when something differs."""
    parser = argparse.ArgumentParser(prog="python -m scripts.gpu_parity", description=__doc__)
    parser.add_argument("simulated", type=Path)
    parser.add_argument("real", type=Path)
    given = parser.parse_args(arguments)
    try:
        found = compare_folders(given.simulated, given.real)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in _report_lines(found):
        print(line)
    return int(any(one.is_equal is False for one in found.values()))


def compare_folders(simulated: Path, real: Path) -> dict[str, GpuComparison]:
    """Compare every scenario that was run on the GPU.

    Raises:
        ToolError: there is none, or the simulation has not run one of them.
    """
    names, known = sorted(golden_names(real)), golden_names(simulated)
    if not names:
        raise ToolError(str(real), "must hold traces", expected="at least one", got=0)
    missing = [name for name in names if name not in known]
    if missing:
        raise ToolError(str(simulated), "must hold every trace", expected=missing[0], got="none")
    return {name: _compared(simulated, real, name) for name in names}


def _compared(simulated: Path, real: Path, name: str) -> GpuComparison:
    traces = (read_recording(golden_path(folder, name)).trace for folder in (simulated, real))
    return compare_with_gpu(*traces)


def _report_lines(found: dict[str, GpuComparison]) -> list[str]:
    """Return the totals, then a line for each scenario that is not equal in every byte."""
    identical = sum(one.is_equal is True and not one.reasons for one in found.values())
    equal = sum(one.is_equal is True for one in found.values())
    different = sum(one.is_equal is False for one in found.values())
    rest = len(found) - equal - different
    total = f"{len(found)} scenarios: {equal} equal ({identical} in every byte)"
    lines = [f"{total}, {different} different, {rest} not comparable"]
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for name, one in found.items():
        for reason in one.reasons or (() if one.is_equal else ("different",)):
            by_reason["different" if one.is_equal is False else reason].append(name)
    for reason, names in by_reason.items():
        lines += [f"{reason}:", *(f"  {name}" for name in dict.fromkeys(names))]
    return lines


if __name__ == "__main__":
    sys.exit(main())
