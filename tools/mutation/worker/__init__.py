"""TODO tools/mutation/worker."""
