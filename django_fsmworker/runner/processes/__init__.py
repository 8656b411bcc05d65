"""Signals, and several runners under one command."""
