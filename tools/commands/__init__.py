"""The commands of ``goldentrace``, one module each."""
