"""
The tests, by level. ``python -m tests`` runs them once on each database; plain ``pytest`` runs
the pass over SQLite.
"""

from __future__ import annotations
