"""TODO tools/goldens."""
