"""Forms in which people give what an event needs."""

from __future__ import annotations

from django import forms


class PayForm(forms.Form):
    amount = forms.IntegerField(min_value=1)
