"""Models to try and to copy: the demo's files, and the orders of the README."""

from __future__ import annotations

from testapp.models.files import File, FileStates
from testapp.models.orders import Order, OrderStates

__all__ = ["File", "FileStates", "Order", "OrderStates"]
