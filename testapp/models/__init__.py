"""Models to try and to copy: files, the README's orders, orders that people move, webhooks."""

from __future__ import annotations

from testapp.models.files import File, FileStates
from testapp.models.orders import Order, OrderStates
from testapp.models.trading import Booking, TradeOrder, TradeStates
from testapp.models.webhooks import Endpoint, Webhook, WebhookStates

__all__ = [
    "Booking",
    "Endpoint",
    "File",
    "FileStates",
    "Order",
    "OrderStates",
    "TradeOrder",
    "TradeStates",
    "Webhook",
    "WebhookStates",
]
