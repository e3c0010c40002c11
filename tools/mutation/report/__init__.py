"""TODO tools/mutation/report."""
