"""Explanation of the difference of two traces by its root causes."""

from traces.diff.comparison import compare_sides, diff, merge_causes

__all__ = ["compare_sides", "diff", "merge_causes"]
