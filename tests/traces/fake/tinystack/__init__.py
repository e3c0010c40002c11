"""A stack in miniature, watched by the tests of the recorder."""
