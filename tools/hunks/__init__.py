"""Attribution of differences to the hunks of source that make them, by reverting hunks."""
