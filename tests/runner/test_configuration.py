"""Where a runner's options come from, and which source wins."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker.conf import AdminSettings, EventSettings, RunnerSettings
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.runner import StatorRunner
from tests.app.models import Noop


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    for name in RunnerSettings.names():
        monkeypatch.delenv(f"FSMWORKER_{name.upper()}", raising=False)
    settings.FSMWORKER = {}


def refusal(**options: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        RunnerSettings.load(**options)
    return str(refused.value)


class TestOrder:
    def test_without_any_setting_the_defaults_hold(self) -> None:
        loaded = RunnerSettings.load()

        assert (loaded.concurrency, loaded.concurrency_per_model) == (10, None)
        assert (loaded.deadline, loaded.lease, loaded.drain_timeout) == (15, 30, 30)
        assert (loaded.poll_interval, loaded.delete_interval, loaded.delete_batch) == (5, 30, 500)
        assert (loaded.watchdog_interval, loaded.connect_timeout) == (60, 30)

    def test_each_source_wins_over_the_next(
        self, monkeypatch: pytest.MonkeyPatch, settings: Any
    ) -> None:
        seen = [RunnerSettings.load().concurrency]

        settings.STATOR_CONCURRENCY = 2
        seen.append(RunnerSettings.load().concurrency)
        settings.FSMWORKER = {"CONCURRENCY": 3}
        seen.append(RunnerSettings.load().concurrency)
        monkeypatch.setenv("FSMWORKER_CONCURRENCY", "4")
        seen.append(RunnerSettings.load().concurrency)
        seen.append(RunnerSettings.load(concurrency=5).concurrency)

        assert seen == [10, 2, 3, 4, 5]

    def test_the_ancestor_s_three_settings(self, settings: Any) -> None:
        settings.STATOR_CONCURRENCY = 2
        settings.STATOR_CONCURRENCY_PER_MODEL = 1
        settings.STATOR_TASK_DEADLINE = 7

        loaded = RunnerSettings.load()

        assert (loaded.concurrency, loaded.concurrency_per_model, loaded.deadline) == (2, 1, 7)

    def test_an_empty_variable_counts_as_not_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FSMWORKER_LEASE", "")

        assert RunnerSettings.load().lease == 30

    def test_a_duration_may_be_a_timedelta(self, settings: Any) -> None:
        settings.FSMWORKER = {"DEADLINE": timedelta(minutes=2)}

        assert RunnerSettings.load().deadline == 120

    def test_the_ancestor_s_word_for_the_deadline(self) -> None:
        assert StatorRunner([Noop], task_deadline=3).settings.deadline == 3


class TestRefusals:
    def test_a_wrong_argument_is_refused(self) -> None:
        assert refusal(concurrency=0) == "concurrency is 0; it has to be a whole number above 0."

    def test_a_truth_is_no_number(self) -> None:
        assert refusal(concurrency=True) == (
            "concurrency is True; it has to be a whole number above 0."
        )

    def test_a_wrong_variable_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FSMWORKER_DRAIN_TIMEOUT", "-1")

        assert refusal() == (
            "the environment variable FSMWORKER_DRAIN_TIMEOUT is '-1'; "
            "it has to be seconds, 0 or more (a number or a timedelta)."
        )

    def test_a_wrong_setting_is_refused(self, settings: Any) -> None:
        settings.FSMWORKER = {"LIVENESS_FILE": 7}

        assert refusal() == (
            'settings.FSMWORKER["LIVENESS_FILE"] is 7; it has to be the path of a file.'
        )

    def test_a_setting_of_the_ancestor(self, settings: Any) -> None:
        settings.STATOR_TASK_DEADLINE = "soon"

        assert refusal() == (
            "settings.STATOR_TASK_DEADLINE is 'soon'; "
            "it has to be seconds above 0 (a number or a timedelta)."
        )

    def test_an_unknown_setting_names_the_known_ones(self, settings: Any) -> None:
        settings.FSMWORKER = {"CONCURENCY": 3}

        text = refusal()

        known = [*RunnerSettings.names(), *EventSettings.names(), *AdminSettings.names()]
        names = ", ".join(sorted(name.upper() for name in known))
        assert text == (
            f"settings.FSMWORKER has the unknown key 'CONCURENCY'; the keys are {names}."
        )

    def test_settings_that_are_no_dictionary(self, settings: Any) -> None:
        settings.FSMWORKER = ["CONCURRENCY"]

        assert refusal() == (
            'settings.FSMWORKER is not a dictionary; write FSMWORKER = {"CONCURRENCY": 10}.'
        )

    def test_an_unknown_option_of_the_constructor(self) -> None:
        with pytest.raises(TypeError) as refused:
            StatorRunner([Noop], concurency=3)

        assert str(refused.value) == (
            f"a runner has no option 'concurency'; "
            f"the options are {', '.join(RunnerSettings.names())}."
        )

    def test_a_runner_without_models_is_refused(self) -> None:
        with pytest.raises(ConfigurationError) as refused:
            StatorRunner([])

        assert str(refused.value) == (
            "There is nothing to run: no installed model has a StateField with a graph."
        )
