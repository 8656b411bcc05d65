"""What the documentation includes: every number on its page comes from here."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cases import CASES
from benchmarks.report import tables
from benchmarks.requirements import Line, Verdict
from benchmarks.results import CaseResult, Results

REMARK = "<!-- Written by `python -m benchmarks report`; not by hand. -->"
UNREACHED = {
    Verdict.MISSED: "not reached",
    Verdict.WRONG: "not proven",
    Verdict.UNKNOWN: "not measured",
}


def rendered(results: Results) -> str:
    """The Markdown file's text."""
    parts = [REMARK, *_circumstances(results), "## What has to hold"]
    parts += [_table(tables.lines_table(tables.lines(results))), *_unreached(results)]
    for title, case in tables.measured(results):
        parts += [f"## {title}", *_case(case)]
    return "\n\n".join(parts) + "\n"


def _circumstances(results: Results) -> Iterator[str]:
    days = sorted({case.taken[:10] for case in results.cases.values()})
    commands = sorted({case.command for case in results.cases.values()})
    if days:
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        yield f"Measured on {when}, by " + ", ".join(f"`{each}`" for each in commands) + "."
    facts = [
        (group, ", ".join(tables.facts_in_words(found))) for group, found in results.facts.items()
    ]
    if facts:
        yield _table([("what", "which"), *facts])


def _unreached(results: Results) -> Iterator[str]:
    """What does not hold, and why, where that is known."""
    missed = [each for each in tables.lines(results) if each.verdict is not Verdict.HOLDS]
    if missed:
        yield "### What does not hold"
        yield "\n".join(f"- {_sentence(each)}" for each in missed)


def _sentence(line: Line) -> str:
    said = f"**{line.what}** ({line.case}): {UNREACHED[line.verdict]}"
    if line.verdict is Verdict.UNKNOWN:
        return f"{said}."
    return f"{said}: {line.reached}, and it has to be {line.target}. {line.why}".rstrip()


def _case(case: CaseResult) -> Iterator[str]:
    yield CASES[case.name].about
    if case.error:
        yield f"It could not be measured: {case.error.splitlines()[0]}"
    if any(each.values for each in case.series):
        yield _table(tables.series_table(case))
    problems = [
        f"- {each.name} ({each.settings}): {problem.splitlines()[0]}."
        for each in case.series
        for problem in each.problems
    ]
    if problems:
        yield "\n".join(["The proof failed:", "", *problems])
    yield (
        f"It took {case.seconds:.0f} s. The load was {case.load:g} when it began, and "
        f"{case.steal:.1f} % of the processors' time was taken by others."
    )


def _table(table: tables.Table) -> str:
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
