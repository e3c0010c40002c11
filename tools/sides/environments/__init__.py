"""Isolated environments for the releases of a package: built once, used offline afterwards.

An environment is a list of directories for ``sys.path``: the wheel of one release, unpacked, and
layers of pinned dependencies that releases share. torch is not among them: it is the interpreter's.
"""

from tools.sides.environments.cache import Environment, cache_folder, environment_for, pinned_layers
from tools.sides.environments.pins import newest_release, parse_release
from tools.sides.environments.trees import package_root, read_release

__all__ = [
    "Environment",
    "cache_folder",
    "environment_for",
    "newest_release",
    "package_root",
    "parse_release",
    "pinned_layers",
    "read_release",
]
