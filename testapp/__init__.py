"""A runnable Django project: the demo, and the models that the tests run."""

from __future__ import annotations
