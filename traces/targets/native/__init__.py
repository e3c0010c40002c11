"""TODO traces/targets/native."""
