"""The executors that run checks: threads, an event loop, and what ends a check before its time."""
