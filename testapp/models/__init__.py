"""Models to try and to copy: the demo's files, the orders of the README, and webhooks."""

from __future__ import annotations

from testapp.models.files import File, FileStates
from testapp.models.orders import Order, OrderStates
from testapp.models.webhooks import Endpoint, Webhook, WebhookStates

__all__ = [
    "Endpoint",
    "File",
    "FileStates",
    "Order",
    "OrderStates",
    "Webhook",
    "WebhookStates",
]
