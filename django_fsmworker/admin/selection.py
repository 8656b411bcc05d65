"""The operators' verbs for the rows that are selected in a list, or for all that match it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_fsmworker import workers
from django_fsmworker.admin.bulk_actions import RUN, bulk_action_url
from django_fsmworker.admin.event_forms import event_form, media_with
from django_fsmworker.admin.formatting import reason_of
from django_fsmworker.admin.preview import Preview, preview
from django_fsmworker.admin.read_only import may
from django_fsmworker.admin.row_page import RowPagePart
from django_fsmworker.bulk.batches import act_now
from django_fsmworker.bulk.freezing import NotFrozen
from django_fsmworker.bulk.starting import start
from django_fsmworker.bulk.verbs import LABELS, VERBS, BulkVerb, subjects
from django_fsmworker.exceptions import NotAllowed, UnknownState
from django_fsmworker.models.bulk_action import bulk_actions_of, offer_bulk_actions
from django_fsmworker.models.discovery import write_database
from django_fsmworker.models.keys import declaring_model

NEED_A_REASON = ("park", "force", "restart")

Action = Callable[[Any, HttpRequest, QuerySet[Any]], HttpResponse | None]


def _action(name: str, description: Any) -> Action:
    """The action of the list that does the verb of that name."""

    def act(self: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        answer: HttpResponse | None = self._state_selected(request, queryset, name)
        return answer

    act.__name__ = f"state_{name}_rows"
    act.__doc__ = f"``{name}`` for rows of the list."
    described: Action = admin.action(act, description=description, permissions=[f"state_{name}"])
    return described


def _permission(name: str) -> Callable[[Any, HttpRequest], bool]:
    """Whether the list offers that verb; Django looks for it by its name."""

    def may(self: Any, request: HttpRequest) -> bool:
        if VERBS[name].takes and not subjects(self.model, name):
            return False  # there is nothing to choose from
        return bool(self.has_state_permission(request, name))

    return may


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """Rows that somebody has chosen, in a list or as a group of failures.

    ``kept`` is what the page that asks posts again, ``back`` where the way back leads.
    """

    rows: QuerySet[Any]
    described: str
    kept: list[tuple[str, str]]
    back: str
    sentence: str = ""


class SelectionActions(RowPagePart):
    """Actions of the list; each first says to how many rows it applies, and asks for a reason."""

    state_action_limit = 500
    """The most rows on which an action is done within the request; the runners do it on more."""

    actions: Any = tuple(f"state_{name}_rows" for name in LABELS)

    state_retry_rows = _action("retry", _("Retry now"))
    state_park_rows = _action("park", _("Park"))
    state_unpark_rows = _action("unpark", _("Unpark"))
    state_cancel_rows = _action("cancel", _("Cancel what runs"))
    state_send_rows = _action("send", _("Send an event"))
    state_move_rows = _action("move", _("Move to a state"))
    state_force_rows = _action("force", _("Force into a state"))
    state_restart_rows = _action("restart", _("Restart in a state"))

    has_state_retry_permission = _permission("retry")
    has_state_park_permission = _permission("park")
    has_state_unpark_permission = _permission("unpark")
    has_state_cancel_permission = _permission("cancel")
    has_state_send_permission = _permission("send")
    has_state_move_permission = _permission("move")
    has_state_force_permission = _permission("force")
    has_state_restart_permission = _permission("restart")

    def __init__(self, model: Any, admin_site: Any) -> None:
        super().__init__(model, admin_site)
        if not self.state_read_only:
            offer_bulk_actions(model)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list; who posts one of these actions without its permission gets 403.

        Django answers as if no action had been chosen.
        """
        asked = request.POST.getlist("action")
        verbs = [verb for verb in LABELS if f"state_{verb}_rows" in asked]
        if not all(self.has_state_permission(request, verb) for verb in verbs):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def has_bulk_action_permission(self, request: HttpRequest) -> bool:
        """Whether this user may have runners act on more rows than one request does."""
        return may(request, RUN)

    def _state_selected(
        self, request: HttpRequest, queryset: QuerySet[Any], name: str
    ) -> HttpResponse | None:
        """The page that asks; once that is confirmed None, so that Django shows the list."""
        kept = [("action", f"state_{name}_rows")]
        kept += [("select_across", request.POST.get("select_across", "0"))]
        kept += [(ACTION_CHECKBOX_NAME, key) for key in request.POST.getlist(ACTION_CHECKBOX_NAME)]
        described = self._state_described(request)
        return self._state_act_on(
            request, ChosenRows(queryset, described, kept, request.get_full_path()), name
        )

    def _state_act_on(
        self, request: HttpRequest, chosen: ChosenRows, name: str
    ) -> HttpResponse | None:
        """The page that asks, or that of a bulk action; None if all is done."""
        choices, subject = subjects(self.model, name), request.POST.get("subject", "")
        if choices and subject not in dict(choices):
            return self._state_ask_rows(request, chosen, name, choices=choices)
        confirmed, reason = "confirmed" in request.POST, reason_of(request)
        form = self._state_form_of(request, name, subject)
        verb = VERBS[name](self.model, subject, request.user, reason)
        if not confirmed or (form is not None and not form.is_valid()):
            return self._state_preview(request, chosen, name, verb, form)
        if name in NEED_A_REASON and not reason:
            said = gettext("Give a reason: it is put on record.")
            if name == "park":
                said = gettext("Give a reason to park them for: it is put on record.")
            messages.error(request, said)
            return self._state_preview(request, chosen, name, verb, form)
        verb.context = form.cleaned_data if form is not None else {}
        try:
            verb.refuse()
            return self._state_act(request, chosen, name, verb)
        except NotAllowed as refused:
            messages.error(request, refused.user_message)
        except (NotFrozen, TypeError, UnknownState, ValueError) as error:
            messages.error(request, str(error))
        return None

    def _state_act(
        self, request: HttpRequest, chosen: ChosenRows, name: str, verb: BulkVerb
    ) -> HttpResponse | None:
        """Act on few rows at once; otherwise have the runners do it, and show how far they are."""
        most = self.state_action_limit
        keys = set(chosen.rows.order_by().values_list("pk", flat=True)[: most + 1])
        if len(keys) <= most:
            tally = act_now(verb, chosen.rows.using(write_database(chosen.rows)), keys)
            self._state_say(request, name, tally.done, tally.left_out)
            return None
        if not self.has_bulk_action_permission(request):
            messages.error(request, self._state_too_many)
            return None
        action = start(
            name,
            chosen.rows,
            verb.subject,
            by=request.user,
            reason=verb.reason,
            context=verb.context,
            described=chosen.described,
        )
        messages.success(request, gettext("The runners do it: %(action)s.") % {"action": action})
        page = bulk_action_url(self.admin_site, request, action)
        return HttpResponseRedirect(page) if page else None

    @property
    def _state_too_many(self) -> str:
        said = gettext(
            "More than %(limit)d rows match, which is more than one request does, and you "
            "have not the permission to start bulk actions. Choose fewer with the filters."
        )
        return said % {"limit": self.state_action_limit}

    def _state_described(self, request: HttpRequest) -> str:
        """What people read of the rows that were chosen."""
        if request.POST.get("select_across") != "1":
            number = len(request.POST.getlist(ACTION_CHECKBOX_NAME))
            return gettext("%(number)d selected rows") % {"number": number}
        asked = [f"{name}={value}" for name, value in request.GET.items() if name not in ("p", "o")]
        return ", ".join(asked) or gettext("all rows")

    def _state_say(self, request: HttpRequest, name: str, done: int, left: int) -> None:
        said = ngettext(
            "%(verb)s: %(count)d row was written, %(left)d left out.",
            "%(verb)s: %(count)d rows were written, %(left)d left out.",
            done,
        )
        level = messages.SUCCESS if done else messages.WARNING
        said %= {"verb": LABELS[name], "count": done, "left": left}
        self.message_user(request, said, level)

    def _state_form_of(self, request: HttpRequest, name: str, subject: str) -> Any:
        """The form of an event that has one; of several edges' that of the first."""
        if name != "send":
            return None
        states = declaring_model(self.model).state_graph.states.values()
        for edge in (edge for state in states for edge in state.events.get(subject, ())):
            if edge.form is not None:
                return event_form(edge.form, request)
        return None

    def _state_preview(
        self, request: HttpRequest, chosen: ChosenRows, name: str, verb: BulkVerb, form: Any
    ) -> HttpResponse:
        seen = preview(chosen.rows, verb)
        warning = self._state_warning(request, chosen.rows, seen)
        return self._state_ask_rows(request, chosen, name, seen, form, warning=warning)

    def _state_warning(self, request: HttpRequest, rows: QuerySet[Any], seen: Preview) -> Any:
        """A warning that nobody would do it; empty if this request or a living runner does."""
        if seen.looked_at <= self.state_action_limit:
            return ""
        if not self.has_bulk_action_permission(request):
            return self._state_too_many
        served = bulk_actions_of(self.model)._meta.label
        if workers.serving(served, databases=[write_database(rows)]):
            return ""
        said = gettext("No living runner would do it now. Start one: manage.py runstator %(label)s")
        return said % {"label": declaring_model(self.model)._meta.label}

    def _state_ask_rows(
        self,
        request: HttpRequest,
        chosen: ChosenRows,
        name: str,
        seen: Preview | None = None,
        form: Any = None,
        *,
        choices: Any = (),
        warning: Any = "",
    ) -> HttpResponse:
        kept, subject = [*chosen.kept], request.POST.get("subject", "")
        if not choices and subject:
            kept.append(("subject", subject))
        about = dict(subjects(self.model, name)).get(subject, subject)
        label = f"{LABELS[name]}: {about}" if subject else LABELS[name]
        question = seen.sentence if seen else gettext("Which one?")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": media_with(self.media, form),
            "title": label,
            "subtitle": capfirst(self.opts.verbose_name_plural),
            "question": f"{chosen.sentence} {question}".lstrip(),
            "lines": seen.lines if seen else (),
            "choices": choices,
            "warning": warning,
            "kept": kept,
            "form": form,
            "label": gettext("Go on") if choices else label,
            "reason": request.POST.get("reason", ""),
            "back": chosen.back,
        }
        return render(request, "django_fsmworker/admin/ask.html", context)
