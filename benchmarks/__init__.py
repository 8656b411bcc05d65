"""Speed, measured against the database's own limit: ``python -m benchmarks drain``."""
