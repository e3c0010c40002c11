"""TODO traces/schema."""
