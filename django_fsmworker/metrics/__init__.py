"""Metrics of runners for Prometheus, served beside the pages on health."""
