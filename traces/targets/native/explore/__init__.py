"""TODO traces/targets/native/explore."""
