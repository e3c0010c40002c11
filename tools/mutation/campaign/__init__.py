"""TODO tools/mutation/campaign."""
