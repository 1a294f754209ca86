"""deploy/, docker-compose.yml and Dockerfile: what they name exists, fits together, and is valid for those who read it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from core.settings import Settings
from tests.needs import needs

ROOT: Final = Path(__file__).resolve().parents[3]
KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = {name: service for name, service in SERVICES.items() if service["image"] == "jelmore"}
SETTINGS: Final = {name.upper() for name in Settings.model_fields}
SECRETS: Final = {"database-url", "redis-url", "api-keys", "flower-basic-auth", "anthropic-api-key"}
"""What docs/deployment.md has people put into `jelmore-secrets`."""
UNKNOWN: Final = {"kustomize.config.k8s.io/v1beta1", "keda.sh/v1alpha1"}
"""Not Kubernetes' own: it has no schemas for these."""
OBJECTS: Final = [
    (file.name, each) for file in sorted(KUBERNETES.glob("*.yaml")) for each in yaml.safe_load_all(file.read_text())
]
PODS: Final = {each["metadata"]["name"]: each for _, each in OBJECTS if "template" in each.get("spec", {})}
CONTAINERS: Final = {name: pod["spec"]["template"]["spec"]["containers"][0] for name, pod in PODS.items()}


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for _, each in OBJECTS if each["kind"] == kind]


def runs(command: list[str]) -> bool:
    """Whether there is such a program, or such a module."""
    if command[:2] == ["python", "-m"]:
        return find_spec(command[2]) is not None
    return (Path(sys.executable).parent / command[0]).exists()


# Containers.


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_runs_what_there_is_with_settings_that_there_are(name: str) -> None:
    assert runs(OURS[name]["command"])
    assert OURS[name]["environment"].keys() <= SETTINGS | {"PORT"}
    assert (OURS[name]["cap_drop"], OURS[name]["init"]) == (["ALL"], True)


def test_the_processes_are_those_of_the_procfile() -> None:
    commands = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    names = {"web": "jelmore-api", "release": "migrate"}

    for process, command in commands.items():
        assert " ".join(OURS[names.get(process, process)]["command"]) == command.replace("'", ""), process
    assert OURS.keys() == {names.get(process, process) for process in commands}


def test_services_wait_for_services_and_keep_what_is_declared() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", ())) <= SERVICES.keys(), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), volume


def test_only_the_proxy_is_published_and_nothing_secret_stands_in_the_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text()

    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]
    for name in ("API_KEYS", "FLOWER_BASIC_AUTH", "POSTGRES_PASSWORD"):
        assert f"${{{name}:?set {name}}}" in text
        assert f"#   {name}=" in text


def test_the_image_is_well_made() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "hadolint"), str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_nginx_takes_its_file(tmp_path: Path) -> None:
    own = (ROOT / "deploy" / "nginx" / "jelmore.conf").read_text().replace("/dev/stdout", f"{tmp_path}/access.log")
    text = f"events {{}}\npid {tmp_path}/pid;\nhttp {{\nupstream jelmore {{ server 127.0.0.1:1; }}\n"
    (tmp_path / "nginx.conf").write_text(f"{text}upstream flower {{ server 127.0.0.1:1; }}\n{own}\n}}\n")
    command = [needs("nginx"), "-t", "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


# Kubernetes.


@pytest.mark.parametrize(("file", "each"), [pytest.param(*one, id=f"{one[1]['kind']}-{one[0]}") for one in OBJECTS])
def test_an_object_is_valid(file: str, each: dict[str, Any]) -> None:
    if each["apiVersion"] not in UNKNOWN:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    (listed,) = of_kind("Kustomization")
    assert file in [*listed["resources"], "kustomization.yaml"]


def test_selectors_and_ports_meet_pods() -> None:
    labels = {name: pod["spec"]["template"]["metadata"]["labels"] for name, pod in PODS.items()}
    ports = {name: {port["name"] for port in each.get("ports", ())} for name, each in CONTAINERS.items()}

    for deployment in of_kind("Deployment"):
        assert deployment["spec"]["selector"]["matchLabels"] == labels[deployment["metadata"]["name"]]
    for budget in of_kind("PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"] in labels.values()
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind("Service")}
    for name, service in services.items():
        if name != "jelmore-nothing":
            assert service["ports"][0]["targetPort"] in ports[name]
    for ingress in of_kind("Ingress"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            backend = path["backend"]["service"]
            assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["ports"]}
            assert path["path"] != "/"  # /metrics would be among it
    for policy in of_kind("NetworkPolicy"):
        chosen = policy["spec"]["podSelector"]
        names = [chosen["matchLabels"]["app"]] if "matchLabels" in chosen else chosen["matchExpressions"][0]["values"]
        assert set(names) <= PODS.keys()
    for scaled in (*of_kind("HorizontalPodAutoscaler"), *of_kind("ScaledObject")):
        assert scaled["spec"]["scaleTargetRef"]["name"] in PODS


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_what_compose_runs_with_settings_that_there_are(name: str) -> None:
    container, spec = CONTAINERS[name], PODS[name]["spec"]["template"]["spec"]
    service = name if name in OURS else name.removeprefix("jelmore-")

    assert container["args"] == OURS[service]["command"]
    for variable in container["env"]:
        assert variable["name"] in SETTINGS | {"PORT"}
        if "valueFrom" in variable:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert (reference["name"], reference["key"] in SECRETS) == ("jelmore-secrets", True)
        else:
            assert variable["name"] in ("PORT", "TRUSTED_PROXY_HOPS", "FLOWER_URL_PREFIX", "FLOWER_PORT")
    assert spec["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["readOnlyRootFilesystem"] == (name != "jelmore-worker")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in container:
            assert container[probe]["httpGet"]["path"] in ("/health/live", "/health/ready")


def test_what_all_pods_are_told_are_settings() -> None:
    (told,) = of_kind("ConfigMap")
    assert told["data"].keys() <= SETTINGS


def test_pods_and_containers_are_given_longer_than_their_process_takes_to_leave() -> None:
    usual = Settings.model_fields
    leaving = {
        "jelmore-api": usual["graceful_timeout_seconds"].default + 5,
        "jelmore-worker": usual["worker_watchdog_seconds"].default,
        "jelmore-webhooks": usual["webhook_timeout_seconds"].default,
    }
    for name, seconds in leaving.items():
        assert PODS[name]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > seconds
        service = name if name in OURS else name.removeprefix("jelmore-")
        assert int(OURS[service]["stop_grace_period"].removesuffix("s")) >= seconds


def test_the_secret_s_keys_are_told() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    assert set(re.findall(r"--from-literal=([a-z-]+)=", page)) == SECRETS
