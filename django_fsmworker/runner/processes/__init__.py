"""Runners as processes: signals, exit codes, and several of them under a supervisor."""
