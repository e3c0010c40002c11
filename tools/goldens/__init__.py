"""The committed goldens of a target, their sidecars and their declaration."""
