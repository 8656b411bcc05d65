"""The models that are measured. They have no migrations: each measurement makes its tables."""
