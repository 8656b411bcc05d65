"""Things that are done to any number of rows, by the runners of these rows."""
