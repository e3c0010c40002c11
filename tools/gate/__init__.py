"""TODO tools/gate."""
