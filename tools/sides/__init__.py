"""TODO tools/sides."""
