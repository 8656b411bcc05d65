"""Building a graph: the body of its class becomes states, nodes and transitions.

A graph that derives from another one gets copies of its states, and its edges between those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import FunctionType
from typing import Any

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.declaring import DeclaredEdge, StateDeclaration
from django_fsmworker.graph.states import EventTransition, Graph, Lifetime, Node, State, Transition

METHODS = (FunctionType, classmethod, staticmethod, property)


def build(graph: type[Graph], root: type[Graph]) -> None:
    """Give the class of a graph its states, and each of these its node.

    ``root`` is the class that all graphs derive from. Raises ``GraphError`` for a class body of
    which no graph can be made; whether the graph is a good one is for validation.
    """
    parent = _parent(graph, root)
    _refuse_foreign_states(graph, root)
    own = _own_states(graph, parent, _reserved_names(root))
    inherited = {} if parent is None else {n: s.twin() for n, s in parent.states.items()}
    graph.states = inherited | own
    if not graph.states:
        raise GraphError(
            f"{graph.__name__}: it has no states; declare at least one, such as new = State()."
        )
    for name, state in graph.states.items():
        state.name, state.node = name, Node(graph, state)
        setattr(graph, name, state)
    _connect(graph, parent, own)


def _parent(graph: type[Graph], root: type[Graph]) -> type[Graph] | None:
    parents = [base for base in graph.__bases__ if issubclass(base, root) and base is not root]
    if len(parents) > 1:
        names = " and ".join(parent.__name__ for parent in parents)
        raise GraphError(
            f"{graph.__name__}: it derives from the graphs {names}; derive from one of them, and"
            " put what the others share into a plain mixin without states."
        )
    return parents[0] if parents else None


def _refuse_foreign_states(graph: type[Graph], root: type[Graph]) -> None:
    """Refuse a State in a plain mixin, which would be a member of no graph."""
    for base in graph.__mro__:
        for name, value in vars(base).items():
            if isinstance(value, State) and not issubclass(base, root):
                raise GraphError(
                    f"{graph.__name__}: {base.__name__}.{name} is a State in a class that is no"
                    f" StateGraph; declare it in {graph.__name__}."
                )


def _reserved_names(root: type[Graph]) -> frozenset[str]:
    public = {name for name in dir(root) if not name.startswith("_")}
    return frozenset(public | {"initial_state", "mro"})


# The members of the class body.


def _own_states(
    graph: type[Graph], parent: type[Graph] | None, reserved: frozenset[str]
) -> dict[str, State]:
    """The states that the body of this very class declares, in their order."""
    found: dict[str, State] = {}
    for name, value in vars(graph).items():
        path = f"{graph.__name__}.{name}"
        if isinstance(value, State):
            _refuse_underscore(path, name)
            _refuse_reserved(path, name, reserved)
            _refuse_second_name(path, value, graph, found)
            found[name] = value
        # Python adds dunders of its own, other ones in every version.
        elif not name.startswith("_"):
            _refuse_reserved(path, name, reserved)
            _refuse_data(path, value)
            _refuse_shadow(path, name, parent)
    return found


def _refuse_underscore(path: str, name: str) -> None:
    if name.startswith("_"):
        raise GraphError(
            f"{path}: a state's name must not start with an underscore; rename the state."
        )


def _refuse_reserved(path: str, name: str, reserved: frozenset[str]) -> None:
    if name in reserved:
        raise GraphError(f"{path}: StateGraph itself uses this name; choose another name.")


def _refuse_second_name(
    path: str, state: State, graph: type[Graph], found: dict[str, State]
) -> None:
    for name, other in found.items():
        if other is state:
            raise GraphError(
                f"{path}: this is the same State object as {graph.__name__}.{name};"
                " give each name a State() of its own."
            )
    if state.node is not None:
        raise GraphError(
            f"{path}: this State object is {state.node.path} already;"
            " give each name a State() of its own."
        )


def _refuse_data(path: str, value: Any) -> None:
    if not isinstance(value, METHODS):
        raise GraphError(
            f"{path}: a graph holds states and methods, not {type(value).__name__};"
            " remove it, or start its name with an underscore."
        )


def _refuse_shadow(path: str, name: str, parent: type[Graph] | None) -> None:
    if parent is not None and name in parent.states:
        raise GraphError(
            f"{path}: {parent.__name__}.{name} is a state, and a method would hide it;"
            " rename the method."
        )


# The edges between them.


def _connect(graph: type[Graph], parent: type[Graph] | None, own: dict[str, State]) -> None:
    """Give every state of the graph the node with its transitions, parents and children."""
    declared = list(_declared(graph, own))
    inherited = [] if parent is None else list(_inherited(graph, parent, own, declared))
    ways_out: dict[State, list[Transition]] = {state: [] for state in graph.states.values()}
    events: dict[State, dict[str, list[EventTransition]]] = {state: {} for state in ways_out}
    for edge in inherited + declared:
        if isinstance(edge, EventTransition):
            events[edge.source].setdefault(edge.trigger, []).append(edge)
        # Allowing the same twice changes nothing; a second timeout or failure is for validation.
        elif edge.kind not in ("check", "guard") or edge not in ways_out[edge.source]:
            ways_out[edge.source].append(edge)
    parents: dict[State, set[State]] = {state: set() for state in ways_out}
    children: dict[State, set[State]] = {state: set() for state in ways_out}
    for edge in inherited + declared:
        if edge.target is not None:
            parents[edge.target].add(edge.source)
            children[edge.source].add(edge.target)
    graph.declared_lifetime = lifetime = _lifetime(graph, parent, own)
    ending: set[State] = set() if lifetime is None else _ended_by(lifetime, children)
    for state in ending:
        assert lifetime is not None
        parents[lifetime.target].add(state)
        children[state].add(lifetime.target)
    for state, edges in ways_out.items():
        state.node = Node(
            graph,
            state,
            tuple(edges),
            frozenset(parents[state]),
            frozenset(children[state]),
            {trigger: tuple(tried) for trigger, tried in events[state].items()},
            lifetime.target if lifetime is not None and state in ending else None,
        )


def _lifetime(
    graph: type[Graph], parent: type[Graph] | None, own: dict[str, State]
) -> Lifetime | None:
    """The lifetime that the graph declares, or the one of its parent."""
    found = [Lifetime(state, after) for state in own.values() for after in state.declared_lifetimes]
    if len(found) > 1:
        targets = " and to ".join(each.target.name for each in found)
        raise GraphError(
            f"{graph.__name__}: it has more than one lifetime, to {targets}; keep one of them."
        )
    if found or parent is None or parent.declared_lifetime is None:
        return found[0] if found else None
    inherited = parent.declared_lifetime
    return replace(inherited, target=graph.states[inherited.target.name])


def _ended_by(lifetime: Lifetime, children: dict[State, set[State]]) -> set[State]:
    """The states in which a life may end: those with a way out that do not come after its end."""
    after, waiting = set[State](), [lifetime.target]
    while waiting:
        state = waiting.pop()
        if state not in after:
            after.add(state)
            waiting.extend(children[state])
    return {state for state, ways in children.items() if ways and state not in after}


def _declared(graph: type[Graph], own: dict[str, State]) -> Iterator[Transition | EventTransition]:
    declared = [edge for state in own.values() for edge in state.declared_edges]
    for _, edge in sorted(declared, key=lambda numbered: numbered[0]):
        yield _complete(edge, graph)


def _complete(edge: DeclaredEdge, graph: type[Graph]) -> Transition | EventTransition:
    source = _member(edge.source, edge, graph)
    target = None if edge.target is None else _member(edge.target, edge, graph)
    if edge.kind == "event":
        return EventTransition(source, target, **edge.options)
    assert target is not None  # only an event leads nowhere
    return Transition(source, target, edge.kind, **edge.options)


def _inherited(
    graph: type[Graph],
    parent: type[Graph],
    own: dict[str, State],
    declared: list[Transition | EventTransition],
) -> Iterator[Transition | EventTransition]:
    # Redeclaring a state replaces its options, and a timeout or failure edge is as good as one:
    # there can be only one of each, so the redeclared state's own takes the place of the parent's.
    # So do its transitions for an event, of which the parent's would be tried first.
    replaced = {
        (edge.source, what)
        for edge in declared
        if edge.source.name in own and (what := _replaceable(edge)) is not None
    }
    for state in parent.states.values():
        source = graph.states[state.name]
        for edge in state.transitions:
            if (source, _replaceable(edge)) not in replaced:
                yield replace(edge, source=source, target=graph.states[edge.target.name])
        for event in (each for tried in state.events.values() for each in tried):
            target = None if event.target is None else graph.states[event.target.name]
            if (source, _replaceable(event)) not in replaced:
                yield replace(event, source=source, target=target)


def _replaceable(edge: Transition | EventTransition) -> str | tuple[str, str] | None:
    if isinstance(edge, EventTransition):
        return ("event", edge.trigger)
    return edge.kind if edge.kind in ("timeout", "failure") else None


def _member(state: StateDeclaration, edge: DeclaredEdge, graph: type[Graph]) -> State:
    """This graph's own state for one of its own or of a parent graph."""
    if not isinstance(state, State) or state.node is None:
        raise GraphError(
            f"{graph.__name__}.{edge.source}: a transition leads to a State without a name;"
            f" assign that State to a name in the body of {graph.__name__}."
        )
    if not issubclass(graph, state.graph):
        raise GraphError(
            f"{graph.__name__}: the transition from {edge.source!r} to {edge.target!r} uses a"
            f" state of another graph; declare a state of its own in {graph.__name__}."
        )
    return graph.states[state.name]
