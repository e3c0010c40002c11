"""TODO tools/workers."""
