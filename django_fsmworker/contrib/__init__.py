"""Bridges to packages that this one does not need."""
