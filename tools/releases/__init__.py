"""TODO tools/releases."""
