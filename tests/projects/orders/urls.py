from __future__ import annotations

from django.urls import path

from tests.projects.orders import views

urlpatterns = [
    path("orders", views.place),
    path("orders/<int:pk>", views.show),
    path("orders/<int:pk>/approve", views.approve),
    path("orders/<int:pk>/cancel", views.cancel),
]
