"""Graphs as drawings: what is in them, and where."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from django_fsmworker.diagram import svg
from django_fsmworker.diagram.description import Diagram, Edge, StateBox, describe
from django_fsmworker.diagram.formats import draw
from django_fsmworker.diagram.marks import EdgeMark, Marks, StateMark
from django_fsmworker.diagram.picture import Box, Line, lay_out
from django_fsmworker.diagram.ranks import CannotDraw
from django_fsmworker.diagram.spacing import spread
from django_fsmworker.diagram.stylesheet import style_of_its_own
from testapp.models.orders import OrderStates
from tests.paths import ROOT
from tests.unit.drawings import many_states
from tests.unit.test_diagram import ParcelStates

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert('x')</script>\x00&\"'\ud800"


def picture(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def texts(text: str, kind: str) -> list[str]:
    return re.findall(rf'<text class="fsmworker-{kind}"[^>]*>([^<]*)</text>', text)


def classes(text: str, kind: str) -> list[str]:
    return re.findall(rf'<(?:g|a) class="(fsmworker-{kind}[^"]*)"', text)


class TestByItself:
    def test_is_well_formed_and_named(self) -> None:
        root = picture(draw(ParcelStates, "svg"))

        assert root.get("role") == "img"
        assert root.get("aria-labelledby") == root.find(f"{SVG}title").get("id")  # type: ignore[union-attr]
        assert root.get("aria-describedby") == root.find(f"{SVG}desc").get("id")  # type: ignore[union-attr]
        assert root.findtext(f"{SVG}title") == "ParcelStates"

    def test_is_said_in_words(self) -> None:
        assert picture(draw(ParcelStates, "svg")).findtext(f"{SVG}desc") == (
            "Packed up (here it begins): to state by its check, to gone as it fails after 3 "
            "failures. state: to gone as it times out after 1 h, to waiting by the event release "
            "if paid=True, stays by the event note. waiting: to gone if seen=True and not "
            "(weight__gt=10). gone: no way out."
        )

    def test_has_each_state_with_its_options(self) -> None:
        text = draw(OrderStates, "svg")

        assert texts(text, "name") == ["new", "paid", "shipped", "failed"]
        assert texts(text, "fact") == [
            "tried again after 30 s",
            "tried again after 1 min",
            "at most 5 attempts",
            "deleted after 30 d",
        ]

    def test_tells_kinds_of_states_and_edges_apart(self) -> None:
        text = draw(ParcelStates, "svg")

        assert classes(text, "state") == [
            "fsmworker-state fsmworker-is-checked",
            "fsmworker-state fsmworker-is-manual",
            "fsmworker-state fsmworker-is-swept",
            "fsmworker-state fsmworker-is-terminal fsmworker-is-failure",
        ]
        for kind in ("check", "failure", "timeout", "event", "guard"):
            assert f"fsmworker-edge fsmworker-by-{kind}" in classes(text, "edge")
        assert "note" in texts(text, "label")

    def test_has_colours_for_light_and_dark(self) -> None:
        style = style_of_its_own()

        assert "var(" not in style
        assert style.count("prefers-color-scheme: dark") == 1
        assert ".fsmworker-ground, .fsmworker-map .fsmworker-back { fill: #121212; }" in style

    def test_is_the_same_each_time(self) -> None:
        """Also in a process where strings have other hashes, and sets another order."""
        code = (
            "from django_fsmworker.diagram import svg\n"
            "from tests.unit.drawings import many_states\n"
            "print(hash('a'), svg.render(many_states(40)), sep='\\n')"
        )

        elsewhere = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)

        number, _, drawing = elsewhere.partition("\n")
        assert int(number) != hash("a")
        assert drawing == svg.render(many_states(40)) + "\n"

    def test_without_the_package_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "fast_sugiyama", None)

        with pytest.raises(CannotDraw) as missing:
            draw(ParcelStates, "svg")

        assert str(missing.value) == (
            "Drawing a graph takes the package fast-sugiyama: install "
            "django-fsmworker[diagrams], or choose another format."
        )

    def test_the_one_in_the_documentation_is_that_of_the_example(self) -> None:
        drawing = Path(ROOT / "docs/order.svg").read_text()

        assert drawing == draw(OrderStates, "svg") + "\n"


class TestPart:
    def test_has_neither_style_nor_script(self) -> None:
        text = svg.render_part(describe(ParcelStates), Marks())

        assert "style" not in text
        assert "script" not in text

    def test_marks_are_shown(self) -> None:
        edge = Edge("packed", "state", "check", "")
        marks = Marks(
            states={"state": StateMark(("12 rows",), "12 rows", "/list?state=state", "failing")},
            edges={edge: EdgeMark(("4/min",), passed=True)},
            title="Parcels",
            key="here",
        )

        text = svg.render_part(describe(ParcelStates), marks)

        assert '<title id="here-title">Parcels</title>' in text
        assert 'role="group"' in text
        assert (
            '<a class="fsmworker-state fsmworker-is-manual fsmworker-is-failing" '
            'href="/list?state=state" aria-label="state: 12 rows">'
        ) in text
        assert texts(text, "fact") == ["4/min", "12 rows"]
        assert "fsmworker-edge fsmworker-by-check fsmworker-passed" in classes(text, "edge")

    def test_texts_are_escaped(self) -> None:
        diagram = Diagram(
            HOSTILE,
            (StateBox("one", HOSTILE, "manual", True, None, (HOSTILE,)),),
            (Edge("one", None, "event", HOSTILE),),
        )
        marks = Marks({"one": StateMark((HOSTILE,), HOSTILE, f"/{HOSTILE}")}, title=HOSTILE)

        text = svg.render_part(diagram, marks)

        assert "<script" not in text
        picture(text)

    def test_long_texts_are_broken_and_cut(self) -> None:
        edge = Edge("one", "two", "guard", "amount__gt=1 and " * 20)
        states = (
            StateBox("one", "a label " * 30, "swept", True, None, ()),
            StateBox("two", "w" * 90, "terminal", False, None, ()),
        )

        text = svg.render_part(Diagram("Long", states, (edge,)), Marks())

        assert max(map(len, texts(text, "name"))) <= 24
        assert len(texts(text, "label")) == 3
        assert texts(text, "label")[-1].endswith("…")
        assert f"<title>{edge.text.strip()}</title>" in text


def rectangles(diagram: Diagram) -> list[tuple[float, float, float, float]]:
    """Those of the boxes and of the texts beside lines."""
    laid_out = lay_out(diagram, Marks())
    loops = [loop for box in laid_out.boxes for loop in box.loops]
    things: list[Box | Line] = [*laid_out.boxes, *laid_out.lines, *loops]
    return [
        (each.x - each.width / 2, each.y - each.height / 2, each.width, each.height)
        for each in things
        if each.width
    ]


class TestPlaces:
    @pytest.mark.parametrize("number", [1, 3, 8, 40])
    def test_nothing_covers_anything_else(self, number: int) -> None:
        for one, two in combinations(rectangles(many_states(number)), 2):
            (x, y, width, height), (left, top, wide, high) = one, two
            apart = x + width <= left or left + wide <= x or y + height <= top or top + high <= y
            assert apart, (one, two)

    @pytest.mark.parametrize("number", [1, 3, 8, 40])
    def test_all_is_inside(self, number: int) -> None:
        laid_out = lay_out(many_states(number), Marks())

        for x, y, width, height in rectangles(many_states(number)):
            assert x > 0
            assert y > 0
            assert x + width < laid_out.width
            assert y + height < laid_out.height

    def test_rows_begin_on_top(self) -> None:
        boxes = lay_out(describe(OrderStates), Marks()).boxes

        assert [box.state.name for box in sorted(boxes, key=lambda box: box.y)][:2] == [
            "new",
            "paid",
        ]

    def test_ways_back_end_with_an_arrow_up(self) -> None:
        states = tuple(StateBox(name, name, "manual", name == "a", None, ()) for name in "ab")
        edges = (Edge("a", "b", "check", ""), Edge("b", "a", "event", "back"))

        lines = lay_out(Diagram("Back", states, edges), Marks()).lines

        assert [line.points for line in lines] == ["down", "up"]

    def test_parts_that_do_not_hang_together_are_side_by_side(self) -> None:
        states = tuple(StateBox(name, name, "manual", name == "a", None, ()) for name in "abc")
        edges = (Edge("a", "b", "check", ""),)

        a, b, c = lay_out(Diagram("Parts", states, edges), Marks()).boxes

        assert b.y > a.y
        assert c.x - c.width / 2 > max(a.right, b.right)

    def test_things_in_a_row_keep_their_distance(self) -> None:
        assert spread([0, 1, 50], [1, 1, 1], [10, 10]) == [-4.5, 5.5, 50]
        assert spread([0, 1], [9, 1], [10]) == pytest.approx([-0.9, 9.1])
        assert spread([-9, 90], [1, 1], [10], 0, 40) == [0, 40]


def test_no_graph_ends_the_process() -> None:
    """In a process of its own: what lays graphs out would take this one with it."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.unit.drawings"], cwd=ROOT, capture_output=True, text=True
    )

    assert (ended.returncode, ended.stdout) == (0, "drawn\n"), ended.stderr
