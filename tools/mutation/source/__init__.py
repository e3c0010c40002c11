"""TODO tools/mutation/source."""
