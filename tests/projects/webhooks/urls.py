from __future__ import annotations

from django.urls import path

from tests.projects.webhooks import views

urlpatterns = [
    path("endpoints", views.register),
    path("events", views.emit),
    path("endpoints/<int:endpoint>/states", views.states),
    path("endpoints/<int:endpoint>/reasons", views.reasons),
]
