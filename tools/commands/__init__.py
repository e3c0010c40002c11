"""The commands of ``goldentrace``."""
