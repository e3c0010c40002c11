"""The verbs of the command line, by what they do with the goldens."""
