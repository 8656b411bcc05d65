"""The page of a model's graph, with what its rows do on it; and the graph on a row's page."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from django_fsmworker.admin.formatting import StyledPart, duration
from django_fsmworker.admin.graph_facts import move_lines, state_lines
from django_fsmworker.admin.refreshing import refresh_context
from django_fsmworker.diagnosis.flow import flow_of
from django_fsmworker.diagnosis.status import status_of
from django_fsmworker.diagram import svg
from django_fsmworker.diagram.description import Diagram, describe
from django_fsmworker.diagram.marks import Marks
from django_fsmworker.diagram.ranks import CannotDraw
from django_fsmworker.models.keys import declaring_model


class GraphPagePart(StyledPart):
    """The page of the graph, and the link that leads there from the list."""

    def get_urls(self) -> list[Any]:
        """Django's addresses, and before them that of the graph."""
        view = self.admin_site.admin_view(self.state_graph_view)
        return [path("graph/", view, name=graph_url_name(self.model)), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Django's list or that of another base, with a link to the graph among its tools."""
        response: Any = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None)
        if context and "cl" in context and not context["cl"].is_popup:
            template = response.resolve_template(response.template_name)
            context["state_base_template"] = template
            context["state_graph_url"] = self._state_graph_url
            response.template_name = "django_fsmworker/admin/list.html"
        return response  # type: ignore[no-any-return]

    def state_graph_view(self, request: HttpRequest) -> HttpResponse:
        """The graph with the rows in each state, and the way they take; a table without it."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        rows = self.get_queryset(request)
        within = rows if _is_part(rows) else None
        diagram = describe(self.model.state_graph)
        listed = self._state_list_url
        states = state_lines(
            status_of(self.model, rows.db, within),
            self.model.state_graph,
            lambda name: f"{listed}?{urlencode({'state': name})}",
        )
        flow = flow_of(self.model, rows.db, within)
        moves, others = move_lines(diagram, flow)
        title = gettext("Life of %(name)s") % {"name": self.opts.verbose_name_plural}
        marks = Marks(
            states={name: line.mark for name, line in states.items()},
            edges={edge: line.mark for edge, line in moves.items()},
            title=title,
        )
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "media": self.media,
            "map": drawn(diagram, marks),
            "states": [each for each in states.values() if each.declared or each.rows.number],
            "unknown": [each for each in states.values() if not each.declared],
            "estimated": any(each.rows.estimated or each.due.estimated for each in states.values()),
            "moves": [*moves.values(), *others],
            "flow": flow,
            "flow_span": duration(flow.seconds) if flow and flow.since else "",
            "list_url": listed,
            **refresh_context(request),
        }
        return render(request, "django_fsmworker/admin/graph.html", context)

    @property
    def _state_graph_url(self) -> str:
        name = f"admin:{graph_url_name(self.model)}"
        return reverse(name, current_app=self.admin_site.name)

    @property
    def _state_list_url(self) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        return reverse(name, current_app=self.admin_site.name)


def graph_url_name(model: Any) -> str:
    """The name of the address of the graph's page of ``model``."""
    return f"{model._meta.app_label}_{model._meta.model_name}_state_graph"


def drawn(diagram: Diagram, marks: Marks) -> SafeString | None:
    """The diagram as a part of a page; None where the package that lays it out is missing."""
    try:
        # What is no markup in it has been escaped.
        return mark_safe(svg.render_part(diagram, marks))
    except CannotDraw:
        return None


def _is_part(rows: QuerySet[Any]) -> bool:
    """Whether there may be rows in the table that are not among ``rows``."""
    query: Any = rows.query
    whole = rows.model._meta.concrete_model is declaring_model(rows.model)
    return not whole or query.has_filters() or query.is_sliced or bool(query.combinator)
