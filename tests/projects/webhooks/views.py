from __future__ import annotations

import json
from collections import Counter

from django.http import HttpRequest, JsonResponse

from django_fsmworker.models import FailureRecord
from tests.projects.webhooks.models import Delivery, Endpoint


def register(request: HttpRequest) -> JsonResponse:
    endpoint = Endpoint.objects.create(url=json.loads(request.body)["url"])
    return JsonResponse({"id": endpoint.pk})


def emit(request: HttpRequest) -> JsonResponse:
    """Deliver each payload to an endpoint."""
    sent = json.loads(request.body)
    deliveries = Delivery.objects.bulk_create(
        Delivery(endpoint_id=sent["endpoint"], payload=payload) for payload in sent["payloads"]
    )
    return JsonResponse({"number": len(deliveries)})


def states(request: HttpRequest, endpoint: int) -> JsonResponse:
    """How many deliveries to an endpoint are in which state."""
    found = Delivery.objects.filter(endpoint=endpoint).values_list("state", flat=True)
    return JsonResponse(dict(Counter(found)))


def reasons(request: HttpRequest, endpoint: int) -> JsonResponse:
    """Why deliveries to an endpoint fail, and how often each was tried."""
    keys = Delivery.objects.filter(endpoint=endpoint).values_list("pk", flat=True)
    records = FailureRecord.objects.filter(
        model="webhooks.Delivery", row__in=[str(key) for key in keys]
    )
    return JsonResponse({each.row: [each.count, each.error, each.message] for each in records})
