"""Attribution of every difference between two traces to the cause it follows from."""
