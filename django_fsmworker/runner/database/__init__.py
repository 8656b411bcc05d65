"""A runner's connections, and what it does while a database is away."""
