"""Pausing from the dashboard: the form that asks what, for how long and why, and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.urls import path
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_fsmworker import clock
from django_fsmworker.admin.dashboard import back_url, shown_lives
from django_fsmworker.admin.formatting import ModelAdminPart, duration, written_in
from django_fsmworker.admin.reach import Reach
from django_fsmworker.admin.read_only import may
from django_fsmworker.admin.redaction import redacted
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.limits import Pause
from django_fsmworker.pauses import key_of_text, lift, pause, paused

SET, LIFT = "django_fsmworker.add_pause", "django_fsmworker.change_pause"
"""The permissions that setting and lifting a pause take."""

EVERYTHING = "*"
LASTS = (900, 3600, 4 * 3600, 86_400)
"""The seconds that are offered."""


class PauseForm(forms.Form):
    """What is paused, for how long, and why; ``offered`` are the models to choose from."""

    what = forms.ChoiceField(label=_("What"))
    key = forms.CharField(
        label=_("Key"),
        required=False,
        max_length=255,
        strip=False,
        help_text=_(
            "One value of the column by which the state is limited, NULL for rows without one; "
            "empty for all of them."
        ),
    )
    lasts = forms.ChoiceField(label=_("For"), required=False)
    until = forms.DateTimeField(
        label=_("Or until"),
        required=False,
        widget=forms.DateTimeInput({"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    reason = forms.CharField(label=_("Reason"), max_length=500)

    def __init__(self, offered: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._offered = {model._meta.label: model for model in offered}
        fields: Any = self.fields
        fields["what"].choices = [
            (EVERYTHING, gettext("everything that runs")),
            *((label, _choices(model)) for label, model in self._offered.items()),
        ]
        until_lifted = ("", gettext("until it is lifted"))
        fields["lasts"].choices = [until_lifted, *((str(each), duration(each)) for each in LASTS)]
        zone = gettext("Time zone: %(zone)s.") % {"zone": get_current_timezone_name()}
        fields["until"].help_text = zone

    @property
    def model(self) -> Any:
        """The model that was chosen; None for everything."""
        label = ".".join(self.cleaned_data["what"].split(".")[:2])
        return self._offered.get(label)

    @property
    def state(self) -> str | None:
        """The state that was chosen; None for all of them."""
        return self.cleaned_data["what"].partition(".")[2].partition(".")[2] or None

    @property
    def end(self) -> datetime | timedelta | None:
        """When it ends, or how long it lasts; None until it is lifted."""
        lasts, until = self.cleaned_data["lasts"], self.cleaned_data["until"]
        return timedelta(seconds=int(lasts)) if lasts else until

    def clean(self) -> dict[str, Any]:
        """Refuse what contradicts itself, an end that is over, and a key that there cannot be."""
        given: dict[str, Any] = super().clean() or {}
        until = given.get("until")
        if given.get("lasts") and until:
            self.add_error("until", gettext("Give a time or an end, not both."))
        elif until and until <= clock.now():
            self.add_error("until", gettext("This moment is over; give a later one."))
        if given.get("key") and "what" in given:
            try:
                given["key"] = key_of_text(self.model, self.state, given["key"])
            except ValidationError as error:
                self.add_error("key", error)
            except ValueError as error:
                self.add_error("key", str(error))
        elif "key" in given:
            given["key"] = ...
        return given


class PauseVerbs(ModelAdminPart):
    """The page that sets a pause, and the button that lifts one; a permission for each."""

    def get_urls(self) -> list[Any]:
        """The addresses of the page and the button, and those of the other bases."""
        view = self.admin_site.admin_view
        return [
            path("stator/pauses/set/", view(self.pause_view), name="django_fsmworker_pause"),
            path("stator/pauses/lift/", view(self.lift_view), name="django_fsmworker_lift"),
            *super().get_urls(),
        ]

    def may_pause(self, request: HttpRequest) -> bool:
        """Whether this user may set pauses."""
        return may(request, SET)

    def may_lift(self, request: HttpRequest) -> bool:
        """Whether this user may lift pauses."""
        return may(request, LIFT)

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        """Ask what is to be paused; once that is posted, pause it and go back to the dashboard."""
        if not self.may_pause(request):
            raise PermissionDenied
        lives = dict(shown_lives(self.admin_site, request))
        if request.method != "POST":
            chosen = {"what": request.GET.get("what", EVERYTHING)}
            return self._ask_for_pause(request, PauseForm(lives, initial=chosen))
        form = PauseForm(lives, request.POST)
        if not form.is_valid():
            return self._ask_for_pause(request, form)
        records = [
            record
            for alias in self.databases_of(request, form.model)
            for record in pause(
                form.model,
                form.state,
                key=form.cleaned_data["key"],
                until=form.end,
                by=request.user,
                reason=form.cleaned_data["reason"],
                using=alias,
            )
        ]
        for named in {redacted("label", str(record), record) for record in records}:
            messages.success(request, gettext("%(what)s is paused.") % {"what": named})
        return HttpResponseRedirect(back_url(self.admin_site, request))

    def shown_pauses(self, databases: Iterable[str]) -> list[Pause]:
        """The pauses in force in each of these databases."""
        return [each for alias in databases for each in paused(alias)]

    def lift_view(self, request: HttpRequest) -> HttpResponse:
        """Lift one pause, and go back to the dashboard."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.may_lift(request):
            raise PermissionDenied
        named = request.POST.get("database", ""), request.POST.get("pause", "")
        shown = self.shown_pauses(Reach().of(self.databases_of(request)))
        found = next((each for each in shown if (each._state.db, str(each.pk)) == named), None)
        if found is not None and lift(found, by=request.user):
            said = gettext("The pause is lifted: %(what)s.")
            messages.success(request, said % {"what": redacted("label", str(found), found)})
        else:
            messages.warning(request, gettext("This pause is over."))
        return HttpResponseRedirect(back_url(self.admin_site, request))

    def databases_of(self, request: HttpRequest, model: Any = None) -> list[str]:
        """The databases with rows of ``model`` that the admin shows.

        For None those of every model, whether they are run there or shown to this user.
        """
        shown = {
            each: written_in(model_admin, request)
            for each, model_admin in shown_lives(self.admin_site, request)
        }
        if model is not None:
            return [shown[model]]
        routed = [router.db_for_write(each) for each in stator_models()]
        return list(dict.fromkeys([*routed, *shown.values()]))

    def _ask_for_pause(self, request: HttpRequest, form: PauseForm) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": gettext("Pause"),
            "media": self.media,
            "form": form,
            "back": back_url(self.admin_site, request),
        }
        return render(request, "django_fsmworker/admin/pause.html", context)


def _choices(model: Any) -> list[tuple[str, Any]]:
    """A model as a whole, and each of its states in which something may have to be done."""
    label, graph = model._meta.label, declaring_model(model).state_graph
    states = [each for each in graph.states.values() if not each.terminal]
    whole = gettext("all of %(model)s") % {"model": label}
    return [(label, whole), *((f"{label}.{each.name}", each.label) for each in states)]
