"""The HTML report: one self-contained page of a verdict and the recordings behind it."""
