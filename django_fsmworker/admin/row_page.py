"""What stands on top of a row's page: why it is where it is, what can be done, the way it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_fsmworker import clock
from django_fsmworker.admin.columns import badge
from django_fsmworker.admin.event_forms import event_form, media_with
from django_fsmworker.admin.formatting import StyledPart, reason_of
from django_fsmworker.admin.read_only import may
from django_fsmworker.admin.redaction import redacted, redacted_reasons
from django_fsmworker.admin.row_events import RowEvents, events_of_row
from django_fsmworker.admin.row_map import row_map
from django_fsmworker.admin.row_verbs import BUTTONS, PERMISSIONS, Verb, carry_out, verbs
from django_fsmworker.admin.running import note_running
from django_fsmworker.admin.timeline import Step, timeline
from django_fsmworker.exceptions import NotAllowed, UnknownState
from django_fsmworker.logs import logger_for

logger = logger_for(__name__)


@dataclass(frozen=True, slots=True)
class Button:
    """A verb with its address."""

    label: Any
    refusal: Any
    url: str


@dataclass(frozen=True, slots=True)
class RowPanel:
    """What the template shows on top of a row's page."""

    badge: SafeString
    map: SafeString | None
    reasons: tuple[Any, ...]
    verbs: list[Button]
    steps: list[Step]
    events: RowEvents | None


class RowPagePart(StyledPart):
    """The panel on top of a row's page, and the addresses of its buttons."""

    state_read_only = False
    """Whether these pages only show: no buttons, and 403 for who posts all the same."""

    def has_state_permission(self, request: HttpRequest, verb: str, row: Any = None) -> bool:
        """Whether this user may use ``verb`` on ``row``, or on any: ``"retry"``, ``"park"``,
        ``"unpark"``, ``"cancel"``, ``"send"`` or ``"move"``; in the list also ``"force"`` and
        ``"restart"``.

        It takes the model's change permission and one of this app: see the page on the admin.
        """
        if self.state_read_only or not self.has_change_permission(request, row):
            return False
        return may(request, f"django_fsmworker.{PERMISSIONS[verb]}")

    def get_urls(self) -> list[Any]:
        """Django's addresses, and before them those of the buttons."""
        view, name = self.admin_site.admin_view(self.state_verb_view), self._state_url_name()
        return [
            path("<path:object_id>/state/<str:verb>/", view, {"subject": ""}, name=name),
            path("<path:object_id>/state/<str:verb>/<str:subject>/", view, name=name),
            *super().get_urls(),
        ]

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Django's page or that of another base, with the panel on top of its content."""
        response: Any = super().render_change_form(request, context, *args, **kwargs)
        row = context.get("original")
        if row is not None:
            note_running([row], row._state.db, clock.now())
        if row is not None and not context.get("is_popup"):
            template = response.resolve_template(response.template_name)
            response.context_data["state_base_template"] = template
            response.context_data["state_panel"] = self._state_panel(request, row)
            response.template_name = "django_fsmworker/admin/row.html"
        return response

    def state_verb_view(
        self, request: HttpRequest, object_id: str, verb: str, subject: str
    ) -> HttpResponse:
        """Do what a button says, and go back to the row's page."""
        row: Any = self.get_object(request, unquote(object_id))
        if row is None:
            return self._get_obj_does_not_exist_redirect(  # type: ignore[no-any-return, attr-defined]
                request, self.opts, object_id
            )
        if verb not in BUTTONS or not self.has_state_permission(request, verb, row):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        offer = self._state_offer(request, row, subject) if verb == "send" else None
        form: Any = None if offer is None else event_form(offer.form, request)
        if offer is not None and not form.is_valid():
            return self._state_ask(request, row, str(offer.label), form)
        self._state_do(request, row, verb, subject, form.cleaned_data if form else None)
        return HttpResponseRedirect(self._state_page(row))

    def _state_do(
        self, request: HttpRequest, row: Any, verb: str, subject: str, context: Any
    ) -> None:
        reason = reason_of(request)
        if verb == "park" and not reason:
            messages.error(request, gettext("Give a reason to park it for: it is put on record."))
            return
        try:
            done = carry_out(row, verb, subject, request.user, reason, context)
        except NotAllowed as refused:
            messages.error(request, refused.user_message)
        except UnknownState as unknown:
            messages.error(request, str(unknown))
        except ObjectDoesNotExist:
            messages.error(request, gettext("The row is gone."))
        except Exception as error:  # of the event's own action, or of a receiver of a signal
            self._state_failed(request, row, verb, subject, error)
        else:
            what = " ".join(filter(None, (verb, subject)))
            if not done:
                messages.warning(request, gettext("Nothing had to be done."))
                return
            said = f"{what}: {reason}" if reason else what
            self.log_change(request, row, said)
            messages.success(request, gettext("Done: %(what)s.") % {"what": what})

    def _state_failed(
        self, request: HttpRequest, row: Any, verb: str, subject: str, error: Exception
    ) -> None:
        """Say what was raised; the log has the traceback."""
        what = " ".join(filter(None, (verb, subject)))
        logger.exception(
            "What a button of %s %s does has failed: %s.",
            row._meta.label,
            row.pk,
            what,
            extra={"action": "button_failed", "model": row._meta.label, "pk": row.pk},
        )
        said = gettext("%(what)s failed: %(error)s")
        told = f"{type(error).__name__}: {redacted('message', str(error), row)}"
        messages.error(request, said % {"what": what, "error": told})

    def _state_offer(self, request: HttpRequest, row: Any, trigger: str) -> Any:
        """What the row offers of an event that has a form; None of one without."""
        for offer in row.state_events(request.user):
            if offer.trigger == trigger and offer.form is not None:
                return offer
        return None

    def _state_ask(self, request: HttpRequest, row: Any, label: str, form: Any) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": media_with(self.media, form),
            "title": label,
            "subtitle": redacted("label", str(row), row),
            "question": gettext("Fill in what it needs:"),
            "form": form,
            "label": label,
            "reason": request.POST.get("reason", ""),
            "back": self._state_page(row),
        }
        return render(request, "django_fsmworker/admin/ask.html", context)

    def _state_panel(self, request: HttpRequest, row: Any) -> RowPanel | None:
        try:
            explanation = row.state_explain()
            found = verbs(
                row, request.user, lambda name: self.has_state_permission(request, name, row)
            )
        except ObjectDoesNotExist:  # deleted since it was loaded
            return None
        buttons = [Button(each.label, each.refusal, self._state_url(row, each)) for each in found]
        steps, events = timeline(row), events_of_row(self.admin_site, request, row)
        return RowPanel(
            badge(row),
            row_map(row, steps),
            redacted_reasons(explanation.reasons, row),
            buttons,
            steps,
            events,
        )

    def _state_url(self, row: Any, verb: Verb) -> str:
        args = [quote(row.pk), verb.name, *([verb.subject] if verb.subject else [])]
        return reverse(f"admin:{self._state_url_name()}", args=args, current_app=self._state_site)

    def _state_page(self, row: Any) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return reverse(name, args=[quote(row.pk)], current_app=self._state_site)

    def _state_url_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_state"

    @property
    def _state_site(self) -> str:
        return self.admin_site.name
