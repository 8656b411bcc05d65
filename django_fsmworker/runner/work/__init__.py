"""What a runner has in hand: rows, batches of them, and the lines in which they wait."""
