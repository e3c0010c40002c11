"""TODO traces/pytest."""
