"""Comparisons of the parts of two traces, one module a part."""
