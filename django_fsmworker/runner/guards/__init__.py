"""Rows that are moved by conditions: asked about in hand, or swept."""
