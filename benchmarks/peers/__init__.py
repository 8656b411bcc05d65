"""Peers: one module each, run in an environment of its own, with nothing installed but the peer."""
