from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.bench import Bench
from benchmarks.cases import CASES, processes, wide
from benchmarks.contenders import Contender, PeerContender
from benchmarks.peers.roster import PEERS
from benchmarks.report import page, plot, tables, terminal
from benchmarks.report.files import FILES, write
from benchmarks.requirements import Verdict
from benchmarks.results import CaseResult, Results, Series
from tests.paths import ROOT

PUBLISHED = ROOT / "docs" / "performance"
OURS, RAW = "django-fsmworker", "raw SQL"


@pytest.fixture
def results() -> Results:
    drain = CaseResult("drain", "2026-11-24T10:00:00+00:00", "python -m benchmarks drain")
    drain.seconds, drain.load = 61.4, 0.5
    drain.series = [
        Series(RAW, "plain", "rows/s", values=[9_000.0, 11_000.0, 10_000.0]),
        Series(RAW, "tuned", "rows/s", values=[20_000.0]),
        Series(OURS, "default", "rows/s", values=[12_000.0], extra={"wal_bytes": [786.4]}),
        Series(OURS, "claims wait for the disk", "rows/s", values=[10_000.0]),
        Series("Peer <A>", "default", "rows/s", True, [500.0]),
        Series("Peer <A>", "best, nothing waits for the disk", "rows/s", True, [10_000.0]),
        Series("Peer <A>", "best", "rows/s", True, [4_000.0], problems=["1 of 9 never ran"]),
    ]
    return Results({"versions": {"Django": "6.1"}}, {"drain": drain})


class TestTables:
    def test_every_requirement_has_a_line_measured_or_not(self, results: Results) -> None:
        lines = tables.lines(results)

        assert len(lines) == sum(len(case.requirements) for case in CASES.values())
        assert {each.verdict for each in lines if each.case != "drain"} == {Verdict.UNKNOWN}

    def test_what_was_reached(self, results: Results) -> None:
        table = tables.lines_table(tables.lines(results))

        best = "x the fastest one at its best"
        assert [row[2:] for row in table[1:5]] == [
            ("at least 1.00 x the serial raw SQL", "0.60 x the serial raw SQL", "no"),
            (f"at least 1.50 {best}", f"3.00 {best}", "yes"),
            (f"at least 1.50 {best}", f"2.50 {best}", "yes"),
            (f"at least 1.50 {best}", f"1.20 {best}", "no"),
        ]

    def test_a_series_shows_median_spread_and_costs(self, results: Results) -> None:
        _, plain, _, ours, *_ = tables.series_table(results.cases["drain"])

        assert plain == (RAW, "plain", "10,000 rows/s", "9,000 – 11,000", "3", "", "", "", "", "")
        assert ours[-2] == "786"

    @pytest.mark.parametrize(
        ("value", "shown"),
        [(12345.6, "12,346"), (99.96, "100.0"), (12.34, "12.3"), (0.126, "0.13")],
    )
    def test_a_number_has_three_digits_that_count(self, value: float, shown: str) -> None:
        assert tables.number(value) == shown


class TestPage:
    def test_says_when_and_how_it_was_measured(self, results: Results) -> None:
        text = page.rendered(results)

        assert "Measured on 2026-11-24, by `python -m benchmarks drain`." in text
        assert "| versions | Django 6.1 |" in text

    def test_says_what_does_not_hold(self, results: Results) -> None:
        text = page.rendered(results)

        assert (
            "- **drain, against raw SQL** (drain): not reached: 0.60 x the serial raw SQL, and "
            "it has to be at least 1.00 x the serial raw SQL. A row costs" in text
        )
        assert "- **SQLite drain** (sqlite): not measured." in text

    def test_says_what_was_not_proven(self, results: Results) -> None:
        assert "- Peer <A> (best): 1 of 9 never ran." in page.rendered(results)

    def test_says_that_a_case_failed(self, results: Results) -> None:
        results.cases["drain"].error = "OSError: no space left\nmore"

        assert "It could not be measured: OSError: no space left\n" in page.rendered(results)

    def test_without_any_measurement_it_has_no_number(self) -> None:
        cells = [row[3] for row in tables.lines_table(tables.lines(Results()))[1:]]

        assert set(cells) == {"–"}
        assert "not measured" in page.rendered(Results())

    def test_a_row_has_as_many_cells_as_the_head(self, results: Results) -> None:
        blocks = re.findall(r"(?:^\|.*\|\n)+", page.rendered(results), re.MULTILINE)

        for block in blocks:
            assert len({line.count("|") for line in block.splitlines()}) == 1


class TestPlot:
    def test_is_well_formed_and_names_everybody(self, results: Results) -> None:
        root = ElementTree.fromstring(plot.rendered(results))

        said = [element.text for element in root.iter() if element.tag.endswith("text")]
        assert f"{OURS}, default" in said
        assert "Peer <A>, best" in said
        assert "12,000" in said

    def test_the_longest_bar_is_the_fastest(self, results: Results) -> None:
        root = ElementTree.fromstring(plot.rendered(results))

        widths = [float(each.get("width", 0)) for each in root.iter() if each.tag.endswith("rect")]
        rates = widths[:7]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] / rates[1] == pytest.approx(20_000 / 12_000, rel=0.01)

    def test_there_is_one_without_measurements(self) -> None:
        assert ElementTree.fromstring(plot.rendered(Results())) is not None


def test_the_terminal_shows_what_was_measured_only(results: Results) -> None:
    text = terminal.rendered(results)

    assert "drain: Drain of rows whose check does nothing (61 s, steal 0.0 %)" in text
    assert "Peer <A> (best): 1 of 9 never ran" in text
    assert "sqlite" not in text


class TestPublished:
    """The page in the documentation shows the file that is committed beside it, and no other."""

    @pytest.mark.parametrize("name", FILES)
    def test_is_what_the_report_renders(self, name: str) -> None:
        results = Results.load(PUBLISHED / "results.json")

        assert (PUBLISHED / name).read_text() == FILES[name](results)

    def test_is_included_in_the_page(self) -> None:
        text = (PUBLISHED.parent / "performance.md").read_text()

        assert "```{include} performance/results.md" in text
        assert "```{image} performance/plot.svg" in text

    def test_the_report_writes_beside_its_file(self, tmp_path: Path, results: Results) -> None:
        write(results, tmp_path)

        assert {path.name for path in tmp_path.iterdir()} == set(FILES)


class TestWide:
    """Two variants are measured, and what has to hold is judged by the less favourable one."""

    @pytest.fixture
    def results(self) -> Results:
        case = CaseResult("wide", "2026-11-24T10:00:00+00:00", "python -m benchmarks wide")
        case.series = [
            Series(OURS, "default", "rows/s", values=[10_000.0]),
            Series(OURS, wide.SCATTERED, "rows/s", values=[5_400.0], extra={"hot_updates": [1.0]}),
            Series(OURS, wide.ADJACENT, "rows/s", values=[4_800.0], extra={"hot_updates": [0.43]}),
        ]
        return Results({}, {"wide": case})

    def test_the_less_favourable_variant_is_judged(self, results: Results) -> None:
        table = tables.lines_table(tables.lines(results))

        assert [row[3:] for row in table if row[0] == "wide"] == [
            ("0.48 x the drain of narrow rows", "no"),
            ("43 % of the claims HOT", "no"),
        ]

    def test_both_are_in_the_table(self, results: Results) -> None:
        _, _, scattered, adjacent = tables.series_table(results.cases["wide"])

        assert (scattered[1], scattered[-1]) == (wide.SCATTERED, "1.00")
        assert (adjacent[1], adjacent[-1]) == (wide.ADJACENT, "0.43")

    def test_one_alone_is_no_verdict(self, results: Results) -> None:
        del results.cases["wide"].series[2]

        verdicts = {each.verdict for each in tables.lines(results) if each.case == "wide"}
        assert verdicts == {Verdict.UNKNOWN}


def test_every_peer_runs_as_often_and_in_as_many_processes_as_we_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raced: list[Contender] = []
    monkeypatch.setattr(Bench, "race", lambda self, contenders, *_, **__: raced.extend(contenders))
    monkeypatch.setattr(processes, "Together", lambda number: None)

    processes.measure(Bench("postgresql://server", peers=PEERS))

    numbers = [each._setting.processes for each in raced if isinstance(each, PeerContender)]
    assert numbers == [1, 2, 4] * len(PEERS)
    assert not hasattr(PeerContender, "most_runs")
