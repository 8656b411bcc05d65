"""The pages on messages and actions, checked against everything that the package says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import django_fsmworker
from tests.documentation import code_words, read, rows
from tests.source_trees import tree_of


class TestMessages:
    """What is quoted is in the code word for word, and whatever can be read is quoted."""

    def test_are_in_the_code(self) -> None:
        wrong = [message for message in documented_messages() if not known(message)]

        assert not wrong

    def test_what_is_logged_is_documented(self) -> None:
        assert not undocumented(logged("info", "warning", "error", "critical", "exception"))

    def test_what_ends_a_runner_is_documented(self) -> None:
        assert not undocumented(first_words(calls_of(*ENDING)))

    def test_what_the_command_writes_is_documented(self) -> None:
        written = calls_of("self.stdout.write", "self.stderr.write")

        assert written
        assert not undocumented(first_words(written))

    def test_what_databases_are_told_to_lack_is_documented(self) -> None:
        sentences = said_in("shortcomings", "refusals", "missing_indexes")

        assert len(sentences) >= 10
        assert not undocumented(sentences)

    def test_what_the_engine_puts_on_record_is_documented(self) -> None:
        failures = [shown(call.args[1]) for call in calls_of("Failure") if len(call.args) > 1]

        assert failures
        assert not undocumented(failures)

    def test_lines_without_words_of_their_own_are_known(self) -> None:
        """Whoever adds one has to say in messages.md what an operator is to make of it."""
        lines = [
            ast.unparse(call)
            for call in log_calls("info", "warning", "error", "critical", "exception")
            if not shown(call.args[0]).strip("… ")
        ]

        assert {re.findall(r"'action': '(\w+)'", line)[0] for line in lines} == {
            "shortcoming",  # sentences of the databases, which are looked at above
            "examine",
        }

    def test_every_action_is_documented(self) -> None:
        table = rows("reference/logging.md", "| action | level |")

        assert sorted(code_words([cells[0] for cells in table])) == sorted(set(actions()))


def documented_messages() -> list[str]:
    quotes = re.findall(r"^> (.+)$", read("reference/messages.md"), re.MULTILINE)
    return [quote.rstrip("…").rstrip() if quote.endswith(" …") else quote for quote in quotes]


def known(message: str) -> bool:
    return any(message in text for text in texts())


@cache
def trees() -> list[ast.Module]:
    package = Path(django_fsmworker.__file__).parent
    return [tree_of(path) for path in sorted(package.rglob("*.py"))]


@cache
def nodes() -> list[ast.AST]:
    return [node for tree in trees() for node in ast.walk(tree)]


@cache
def texts() -> list[str]:
    """Every string of the package; what is filled in later is an ellipsis."""
    return list(dict.fromkeys(text for node in nodes() if (text := shown(node))))


@cache
def calls() -> dict[str, list[ast.Call]]:
    """Every call of the package, by the function that is called."""
    found: dict[str, list[ast.Call]] = {}
    for node in nodes():
        if isinstance(node, ast.Call):
            found.setdefault(ast.unparse(node.func), []).append(node)
    return found


def shown(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(?:\.\d)?[srdf]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [shown(each) if isinstance(each, ast.Constant) else "…" for each in node.values]
        return "".join(parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return shown(node.left) + (shown(node.right) or "…")
    return ""


def undocumented(messages: list[str]) -> list[str]:
    """Those that no quotation in messages.md begins."""
    documented = documented_messages()
    return [each for each in messages if not any(each.startswith(quote) for quote in documented)]


def logged(*levels: str) -> list[str]:
    """The messages of all log calls of these levels that are more than what is filled in."""
    return first_words(log_calls(*levels))


def log_calls(*levels: str) -> list[ast.Call]:
    return calls_of(*(f"logger.{level}" for level in levels))


def calls_of(*functions: str) -> list[ast.Call]:
    return [call for function in functions for call in calls().get(function, [])]


def first_words(calls: list[ast.Call]) -> list[str]:
    """Their first arguments, without those that are filled in as a whole."""
    messages = [shown(call.args[0]) for call in calls if call.args]
    return [message for message in messages if message.strip("… ")]


# What ends a runner with a sentence, or keeps it from starting.
ENDING = (
    "argparse.ArgumentTypeError",
    "CommandError",
    "ConfigurationError",
    "ImproperlyConfigured",
    "RuntimeError",
)


def said_in(*functions: str) -> list[str]:
    """The sentences in all functions of these names."""
    found = [
        shown(node)
        for function in nodes()
        if isinstance(function, ast.FunctionDef) and function.name in functions
        for node in ast.walk(function)
        if isinstance(node, ast.JoinedStr)
    ]
    return [text for text in found if text.endswith(".")]


def actions() -> Iterator[str]:
    """Every value of ``extra["action"]``."""
    for node in nodes():
        if not isinstance(node, ast.Dict):
            continue
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "action":
                yield from ACTIONS_COMPUTED.get(ast.unparse(value)) or [ast.literal_eval(value)]


ACTIONS_COMPUTED = {
    # What a check is interrupted for, and how a failure is counted.
    "action": ["overdue", "cancelled"],
    "outcome.ending.value": ["failed", "overran"],
}
