"""The threads that run checks, and everything that ends one."""
