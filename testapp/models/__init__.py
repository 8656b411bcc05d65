"""Models to try and to copy: the demo's files, the README's orders, orders that people move."""

from __future__ import annotations

from testapp.models.files import File, FileStates
from testapp.models.orders import Order, OrderStates
from testapp.models.trading import Booking, TradeOrder, TradeStates

__all__ = [
    "Booking",
    "File",
    "FileStates",
    "Order",
    "OrderStates",
    "TradeOrder",
    "TradeStates",
]
