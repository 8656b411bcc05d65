"""Where things are."""

from __future__ import annotations

from pathlib import Path

# The checkout.
ROOT = Path(__file__).parent.parent
