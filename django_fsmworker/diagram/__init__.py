"""Graphs as diagrams: a description in plain data, and one renderer a module."""
