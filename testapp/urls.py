from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import path

from testapp import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/login/", LoginView.as_view(template_name="testapp/login.html"), name="login"),
    path("orders/", views.orders, name="orders"),
    path("orders/<int:pk>/", views.order, name="order"),
    path("orders/<int:pk>/<str:trigger>/", views.send, name="send"),
]
