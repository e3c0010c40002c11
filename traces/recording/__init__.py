"""TODO traces/recording."""
