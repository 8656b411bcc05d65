"""What people give with an event; what is valid becomes its context."""

from __future__ import annotations

from django import forms


class PaymentForm(forms.Form):
    amount = forms.IntegerField(min_value=1)
