"""TODO traces/targets/common."""
