"""Isolated environments for the releases of a package: built once, used offline afterwards.

An environment is a list of directories for ``sys.path``: the wheel of one release, unpacked, and
layers of pinned dependencies that releases share. torch is not among them: it is the interpreter's.
"""
