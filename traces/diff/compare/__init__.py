"""TODO traces/diff/compare."""
