from __future__ import annotations

from django.db import models


class Job(models.Model):
    """A row that is moved by a worker; its key is the number that it notes."""

    status = models.CharField(max_length=20, default="new")
