"""Lines of the log that nobody can forge."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest

from django_fsmworker.logs import logger_for, shown
from tests.documentation import blocks, read

FORGED = "ERROR all is lost"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a plain handler writes of the logger ``django_fsmworker.tried``."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logger_for("django_fsmworker.tried")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def raised(text: str) -> Exception:
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        return error


class Mute:
    def __str__(self) -> str:
        raise KeyError("mute")


def test_a_traceback_begins_no_line_of_its_own(written: io.StringIO) -> None:
    error = raised(f"no\n{FORGED}\x1b[2J")

    logger_for("django_fsmworker.tried").error("It failed.", exc_info=error)

    first, *others = written.getvalue().splitlines()
    assert first == "ERROR It failed."
    assert others[0] == "  Traceback (most recent call last):"
    assert others[-1] == f"  {FORGED}\\x1b[2J"
    assert all(line.startswith("  ") for line in others)


@pytest.mark.parametrize("name", ["pk", "state", "tenant", "error"])
def test_a_field_with_data_stays_on_its_line(name: str, caplog: pytest.LogCaptureFixture) -> None:
    logger_for("django_fsmworker.tried").warning("It failed.", extra={name: f"7\n{FORGED}"})

    assert vars(caplog.records[0])[name] == f"7\\n{FORGED}"


def test_a_number_stays_a_number(caplog: pytest.LogCaptureFixture) -> None:
    logger_for("django_fsmworker.tried").warning("It failed.", extra={"pk": 7})

    assert vars(caplog.records[0])["pk"] == 7


def test_what_has_no_text_ends_nothing() -> None:
    assert shown(Mute()) == "(its text cannot be had: KeyError)"


class TestJSON:
    """The recipe of the page on logs, as it stands there."""

    @pytest.fixture
    def lines(self) -> Iterator[io.StringIO]:
        names: dict[str, Any] = {}
        (recipe,) = [code for _, code in blocks(read("how-to/logs.md")) if "LOGGING" in code]
        exec(recipe, names)
        stream, config = io.StringIO(), names["LOGGING"]
        config["formatters"]["json"]["()"] = names["JSONFormatter"]
        config["handlers"]["console"]["stream"] = stream
        config["loggers"] = {"django_fsmworker.json": config["loggers"]["django_fsmworker"]}
        logging.config.dictConfig(config)
        yield stream
        logging.getLogger("django_fsmworker.json").handlers.clear()

    def test_a_record_is_one_object_with_its_fields(self, lines: io.StringIO) -> None:
        extra = {"action": "failed", "pk": f"7\n{FORGED}", "tenant": 12, "trace_id": "ab" * 16}
        error = raised(f"no\n{FORGED}")

        logger_for("django_fsmworker.json").error(
            "It failed: %s", error, exc_info=error, extra=extra
        )

        (line,) = lines.getvalue().splitlines()
        found = json.loads(line)
        assert found.pop("traceback").endswith(FORGED)
        assert found.pop("time")
        assert found == {
            "level": "ERROR",
            "logger": "django_fsmworker.json",
            "message": f"It failed: no\\n{FORGED}",
            "action": "failed",
            "pk": f"7\\n{FORGED}",
            "tenant": 12,
            "trace_id": "ab" * 16,
        }

    def test_a_record_without_fields(self, lines: io.StringIO) -> None:
        logger_for("django_fsmworker.json").info("It is up.")

        assert set(json.loads(lines.getvalue())) == {"time", "level", "logger", "message"}
