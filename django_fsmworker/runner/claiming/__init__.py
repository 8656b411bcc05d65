"""Taking rows: which, how many, from where; keeping them; those whose process died."""
