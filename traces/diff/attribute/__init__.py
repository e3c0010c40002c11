"""TODO traces/diff/attribute."""
