"""The examples of deployments: each can be parsed, and says what the documentation says."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import load_command_class

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.metrics.families import DEFINITIONS
from tests.documentation import read
from tests.paths import ROOT
from tests.programs import promtool

EXAMPLES = ROOT / "examples"
GRACE = 10


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def options_of(words: list[str]) -> Any:
    """The command's own parser reads what follows the name of the module."""
    assert words[1:3] == ["-m", "django_fsmworker"]
    parser = load_command_class("django_fsmworker", "runstator").create_parser("x", "runstator")
    return parser.parse_args(words[3:])


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(EXAMPLES / "fsmworker.service")
    return parser


def test_the_readme_names_every_file() -> None:
    text = (EXAMPLES / "README.md").read_text()

    files = {path.name for path in EXAMPLES.iterdir()} - {"README.md"}

    assert {name for name in files if f"`{name}`" in text} == files


class TestKubernetes:
    def test_the_probes_ask_the_port_that_is_served(self) -> None:
        deployment, budget, scaled = documents("kubernetes.yaml")
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]

        options = options_of(container["command"])

        assert options.health_host == "0.0.0.0", "the kubelet asks from outside"
        assert container["ports"] == [{"name": "health", "containerPort": options.health_port}]
        probes = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
        assert {name: probe["path"] for name, probe in probes.items()} == {
            "startupProbe": "/readyz",
            "livenessProbe": "/livez",
            "readinessProbe": "/readyz",
        }
        assert {probe["port"] for probe in probes.values()} == {"health"}
        assert pod["terminationGracePeriodSeconds"] >= RunnerSettings().drain_timeout + GRACE
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]
        assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]

    def test_a_pod_ends_itself_before_it_is_ended_for_its_memory(self) -> None:
        (container,) = documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]["containers"]

        limit = container["resources"]["limits"]["memory"]

        assert options_of(container["command"]).max_memory < int(limit.removesuffix("Mi"))


class TestCompose:
    def test_the_runner_has_time_to_drain(self) -> None:
        (project,) = documents("compose.yaml")
        runner = project["services"]["runner"]

        assert options_of(runner["command"]).health_port == 8001
        assert (
            int(runner["stop_grace_period"].removesuffix("s"))
            >= RunnerSettings().drain_timeout + GRACE
        )


class TestDockerfile:
    def test_the_command_is_a_list_and_its_check_asks_the_same_port(self) -> None:
        lines = (EXAMPLES / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
        command = next(line.removeprefix("CMD ") for line in lines if line.startswith("CMD "))
        check = next(line for line in lines if line.startswith("HEALTHCHECK "))

        port = options_of(yaml.safe_load(command)).health_port

        assert f"http://127.0.0.1:{port}/livez" in check


class TestSystemd:
    def test_it_waits_for_the_drain_and_hears_the_watchdog(self) -> None:
        service = unit()["Service"]

        assert service["Type"] == "notify"
        assert int(service["WatchdogSec"]) >= 60
        assert int(service["TimeoutStopSec"]) >= RunnerSettings().drain_timeout + GRACE
        assert options_of(service["ExecStart"].split()).processes == 4

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
    def test_systemd_itself_accepts_it(self, tmp_path: Path) -> None:
        text = (EXAMPLES / "fsmworker.service").read_text()
        # The program and the user have to exist where it is verified.
        text = text.replace("/srv/project/.venv/bin/python", "/bin/true").replace(
            "User=project\n", ""
        )
        copy = tmp_path / "fsmworker.service"
        copy.write_text(text)

        verified = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True
        )

        said = [line for line in verified.stderr.splitlines() if "fsmworker.service" in line]
        assert (verified.returncode, said) == (0, [])


class TestMetrics:
    """The dashboard and the alerts use metrics that exist, with labels that they have."""

    def rules(self) -> list[dict[str, Any]]:
        (alerts,) = documents("alerts.yaml")
        rules: list[dict[str, Any]] = alerts["groups"][0]["rules"]
        return rules

    def panels(self) -> list[dict[str, Any]]:
        dashboard = json.loads((EXAMPLES / "grafana.json").read_text())
        panels: list[dict[str, Any]] = dashboard["panels"]
        return panels

    def expressions(self) -> list[str]:
        shown = [target["expr"] for panel in self.panels() for target in panel["targets"]]
        return shown + [rule["expr"] for rule in self.rules()]

    def test_exist_with_their_labels(self) -> None:
        for expression in self.expressions():
            names = re.findall(r"fsmworker_\w+?(?=_bucket\b|\b)", expression)
            labels = {"le", "instance", "process"}.union(*(DEFINITIONS[n].labels for n in names))
            by = re.findall(r"by \(([^)]*)\)", expression)

            assert names
            assert {each.strip() for some in by for each in some.split(",")} <= labels

    def test_are_all_on_the_dashboard(self) -> None:
        shown = "".join(target["expr"] for panel in self.panels() for target in panel["targets"])

        assert [name for name in DEFINITIONS if name not in shown] == []

    def test_of_which_each_alert_is_in_the_handbook(self) -> None:
        documented = re.findall(r"^\| `(Fsmworker\w+)` \|", read("how-to/operate.md"), re.MULTILINE)

        assert documented == [rule["alert"] for rule in self.rules()]

    def test_prometheus_itself_accepts_them(self, tmp_path: Path) -> None:
        rules = tmp_path / "rules.yaml"
        recorded = [
            {"record": f"panel:{number}", "expr": expression}
            for number, expression in enumerate(self.expressions())
        ]
        rules.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))

        for path in (rules, EXAMPLES / "alerts.yaml"):
            checked = subprocess.run(
                [promtool(), "check", "rules", str(path)], capture_output=True, text=True
            )

            assert checked.returncode == 0, checked.stdout + checked.stderr
