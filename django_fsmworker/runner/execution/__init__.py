"""An attempt at a row: its guards, its check, how it ends and what is written for that."""
