"""A data migration that renames states in the rows, written to the app's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db.migrations import Migration
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.writer import MigrationWriter

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.operations import RenameStates


def write_renaming(model: Any, renamed: Mapping[str, str]) -> Path:
    """Write the migration; returns the path of its file."""
    app, loader = model._meta.app_label, MigrationLoader(None)
    leaves = loader.graph.leaf_nodes(app)
    if len(leaves) != 1:
        raise ConfigurationError(
            f"The app {app} has {len(leaves)} last migrations, so nothing can follow them; run "
            f"'manage.py makemigrations {app}' first."
        )
    number = (MigrationAutodetector.parse_number(leaves[0][1]) or 0) + 1
    operation = RenameStates(model._meta.model_name, dict(renamed))
    name = f"{number:04d}_{operation.migration_name_fragment}"
    migration: Any = type(
        "Migration", (Migration,), {"operations": [operation], "dependencies": [leaves[0]]}
    )(name, app)
    writer = MigrationWriter(migration)
    path = Path(writer.path)
    path.write_text(writer.as_string(), encoding="utf-8")
    return path
