"""Settings of a runner: where they come from, in which order, and what a wrong one is told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from django_fsmworker.conf import AdminSettings, EventSettings, RunnerSettings
from django_fsmworker.exceptions import ConfigurationError


@pytest.fixture(autouse=True)
def clean(monkeypatch, settings):
    for name in RunnerSettings.names():
        monkeypatch.delenv(f"FSMWORKER_{name.upper()}", raising=False)
    settings.FSMWORKER = {}


class TestOrder:
    def test_without_any_setting_the_defaults_hold(self):
        loaded = RunnerSettings.load()

        assert (loaded.concurrency, loaded.concurrency_per_model) == (10, None)
        assert (loaded.deadline, loaded.lease, loaded.drain_timeout) == (15, 30, 30)
        assert (loaded.poll_interval, loaded.delete_interval, loaded.delete_batch) == (5, 30, 500)
        assert loaded.liveness_file is None
        assert loaded == RunnerSettings()

    def test_the_ancestors_settings_are_read(self, settings):
        settings.STATOR_CONCURRENCY = 3
        settings.STATOR_CONCURRENCY_PER_MODEL = 2
        settings.STATOR_TASK_DEADLINE = 7

        loaded = RunnerSettings.load()

        assert (loaded.concurrency, loaded.concurrency_per_model, loaded.deadline) == (3, 2, 7)

    def test_each_source_beats_those_after_it(self, settings, monkeypatch):
        settings.STATOR_CONCURRENCY = 3
        settings.FSMWORKER = {"CONCURRENCY": 4}
        assert RunnerSettings.load().concurrency == 4

        monkeypatch.setenv("FSMWORKER_CONCURRENCY", "5")
        assert RunnerSettings.load().concurrency == 5

        assert RunnerSettings.load(concurrency=6).concurrency == 6

    def test_none_and_the_empty_string_say_nothing(self, settings, monkeypatch):
        settings.FSMWORKER = {"CONCURRENCY": None, "LEASE": 20}
        monkeypatch.setenv("FSMWORKER_LEASE", "")

        loaded = RunnerSettings.load(concurrency=None, lease=None)

        assert (loaded.concurrency, loaded.lease) == (10, 20)

    def test_without_the_setting(self, settings):
        del settings.FSMWORKER

        assert RunnerSettings.load() == RunnerSettings()


class TestValues:
    @pytest.mark.parametrize("value", [90, 90.0, "90", "90.0", timedelta(minutes=1, seconds=30)])
    def test_seconds_may_be_numbers_texts_and_timedeltas(self, value):
        assert RunnerSettings.load(lease=value).lease == 90.0

    @pytest.mark.parametrize("name", ["drain_timeout", "abandon_after", "connect_timeout"])
    def test_some_seconds_may_be_zero(self, name):
        assert getattr(RunnerSettings.load(**{name: 0}), name) == 0.0

    @pytest.mark.parametrize("value", [12, "12"])
    def test_whole_numbers_may_be_texts(self, value):
        concurrency = RunnerSettings.load(concurrency=value).concurrency

        assert (concurrency, type(concurrency)) == (12, int)

    @pytest.mark.parametrize("value", [True, 1, "1", "true", "Yes", "on"])
    def test_these_words_are_true(self, value):
        assert RunnerSettings.load(hints=value).hints is True

    @pytest.mark.parametrize("value", [False, 0, "0", "False", "no", "OFF"])
    def test_these_words_are_false(self, value):
        assert RunnerSettings.load(hints=value).hints is False

    @pytest.mark.parametrize("value", ["perhaps", 2, "", []])
    def test_what_is_neither_true_nor_false_is_refused(self, value):
        with pytest.raises(ConfigurationError) as caught:
            RunnerSettings.load(hints=value)

        assert str(caught.value) == f"hints is {value!r}; it has to be true or false."

    @pytest.mark.parametrize("value", ["alive", Path("alive")])
    def test_a_path_may_be_a_text_or_a_path(self, value):
        assert RunnerSettings.load(liveness_file=value).liveness_file == "alive"

    @pytest.mark.parametrize(
        "value", [0, -1, "0", "ten", "", True, "nan", "inf", float("inf"), 10**400, []]
    )
    def test_wrong_seconds_are_refused(self, value, settings):
        settings.FSMWORKER = {"LEASE": value}

        with pytest.raises(ConfigurationError) as caught:
            RunnerSettings.load()

        assert str(caught.value) == (
            f'settings.FSMWORKER["LEASE"] is {value!r}; it has to be seconds above 0 (a number or '
            f"a timedelta)."
        )

    @pytest.mark.parametrize(
        "value", [0, -1, "0", "ten", 2.5, 2.0, True, float("inf"), float("nan"), timedelta(1)]
    )
    def test_wrong_whole_numbers(self, value):
        with pytest.raises(ConfigurationError) as caught:
            RunnerSettings.load(concurrency=value)

        assert str(caught.value) == (
            f"concurrency is {value!r}; it has to be a whole number above 0."
        )

    def test_wrong_in_the_environment(self, monkeypatch):
        monkeypatch.setenv("FSMWORKER_DRAIN_TIMEOUT", "-1")

        with pytest.raises(ConfigurationError) as caught:
            RunnerSettings.load()

        assert str(caught.value) == (
            "the environment variable FSMWORKER_DRAIN_TIMEOUT is '-1'; it has to be seconds, 0 or "
            "more (a number or a timedelta)."
        )

    def test_wrong_in_an_ancestors_setting(self, settings):
        settings.STATOR_CONCURRENCY = "many"

        with pytest.raises(ConfigurationError) as caught:
            RunnerSettings.load()

        assert str(caught.value) == (
            "settings.STATOR_CONCURRENCY is 'many'; it has to be a whole number above 0."
        )

    def test_what_is_no_path_is_refused(self):
        with pytest.raises(ConfigurationError) as caught:
            RunnerSettings.load(liveness_file=5)

        assert str(caught.value) == "liveness_file is 5; it has to be the path of a file."


class TestTheAdmin:
    def test_a_function_is_named_by_its_path(self, settings):
        assert AdminSettings.load().admin_redact is None

        settings.FSMWORKER = {"ADMIN_REDACT": "shop.privacy.redact"}

        assert AdminSettings.load().admin_redact == "shop.privacy.redact"

    @pytest.mark.parametrize("value", ["redact", "a.b,c.d", 3, len])
    def test_what_is_no_path_is_refused(self, settings, value):
        settings.FSMWORKER = {"ADMIN_REDACT": value}

        with pytest.raises(ConfigurationError) as caught:
            AdminSettings.load()

        assert str(caught.value) == (
            f'settings.FSMWORKER["ADMIN_REDACT"] is {value!r}; it has to be a dotted path.'
        )


class TestTheDictionary:
    def test_an_unknown_key_is_refused(self, settings):
        settings.FSMWORKER = {"CONCURENCY": 5}

        with pytest.raises(ConfigurationError) as caught:
            RunnerSettings.load()

        names = [*RunnerSettings.names(), *EventSettings.names(), *AdminSettings.names()]
        keys = ", ".join(sorted(name.upper() for name in names))
        assert str(caught.value) == (
            f"settings.FSMWORKER has the unknown key 'CONCURENCY'; the keys are {keys}."
        )

    @pytest.mark.parametrize("value", [None, [], "CONCURRENCY=5"])
    def test_what_is_no_dictionary_is_refused(self, settings, value):
        settings.FSMWORKER = value

        with pytest.raises(ConfigurationError) as caught:
            RunnerSettings.load()

        assert str(caught.value) == (
            'settings.FSMWORKER is not a dictionary; write FSMWORKER = {"CONCURRENCY": 10}.'
        )

    def test_settings_cannot_be_changed_afterwards(self):
        with pytest.raises(AttributeError):
            RunnerSettings().lease = 5  # type: ignore[misc]
