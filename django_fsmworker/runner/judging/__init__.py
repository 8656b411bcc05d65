"""What a check says of a row: running it, reading its answer, ending it from outside."""
