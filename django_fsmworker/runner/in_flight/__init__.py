"""The rows this process has claimed: attempts, batches of them, and the queue they wait in."""
