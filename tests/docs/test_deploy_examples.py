"""The examples of docs/deploy as they are: each command starts a server that asks who comes, is healthy and stops."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import metadata
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import yaml
from tests.fixtures.engines import Valkey
from tests.fixtures.proxies import DEPLOY
from tests.fixtures.serve import PATIENCE, Serve, run_newswire

SECRET: Final = {"NEWSWIRE_JWT_SECRET": "s" * 40}
# What Kubernetes adds beside a service of this name.
OF_THE_SERVICE: Final = {
    "NEWSWIRE_SERVICE_HOST": "10.0.0.1",
    "NEWSWIRE_SERVICE_PORT": "80",
    "NEWSWIRE_PORT": "tcp://10.0.0.1:80",
    "NEWSWIRE_PORT_80_TCP": "tcp://10.0.0.1:80",
    "NEWSWIRE_PORT_80_TCP_PROTO": "tcp",
}


def read(name: str) -> str:
    return (DEPLOY / name).read_text()


def instruction(name: str) -> Any:
    """The JSON of an instruction of the Dockerfile."""
    return json.loads(re.findall(rf"(?m)^{name} (\[.*\])$", read("Dockerfile"))[0])


def unit(name: str) -> configparser.ConfigParser:
    """A file of systemd's."""
    found = configparser.ConfigParser(interpolation=None, comment_prefixes="#", delimiters="=")
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(DEPLOY / name)
    return found


def container() -> dict[str, Any]:
    [deployment, _] = yaml.safe_load_all(read("kubernetes.yaml"))
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def commands() -> Iterator[tuple[str, list[str], Mapping[str, str]]]:
    """Name, arguments of `newswire`, and the environment that it is given."""
    yield "docker", [*instruction("ENTRYPOINT"), *instruction("CMD")], SECRET
    given = {each["name"]: "s" * 40 for each in container()["env"]}
    yield "kubernetes", [*instruction("ENTRYPOINT"), *container()["args"]], {**given, **OF_THE_SERVICE}
    service = unit("newswire.service")["Service"]
    assert service["EnvironmentFile"]
    yield "systemd", shlex.split(service["ExecStart"]), SECRET
    [web] = re.findall(r"(?m)^web: (.*)$", read("README.md"))
    yield "heroku", [re.sub(r"^\$JWT_SECRET$", "s" * 40, each) for each in shlex.split(web)], {}
    for name in ("nginx.conf", "Caddyfile"):
        assert "export NEWSWIRE_JWT_SECRET" in read(name)
        for number, line in enumerate(re.findall(r"(?m)^# +(newswire serve .*)$", read(name))):
            yield f"{name}, {number}", shlex.split(line), SECRET


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(("name", "command", "environment"), [pytest.param(*each, id=each[0]) for each in commands()])
def test_an_example_serves(
    name: str, command: list[str], environment: Mapping[str, str], valkey: Valkey, tmp_path: Path
) -> None:
    """It starts, is healthy as its own checks ask, lets no stranger publish, and stops in order."""
    program, verb, *flags = command
    assert (program.rpartition("/")[2], verb) == ("newswire", "serve")
    own = re.compile(r"(?P<log>(redis|valkey)://\S+|\$REDIS_URL)|sqlite:////[\w/]+/|\$PORT")
    flags = [own.sub(lambda found: valkey.url if found["log"] else f"sqlite:///{tmp_path}/", flag) for flag in flags]
    with Serve(tmp_path, *flags, environment=environment) as server:
        if name == "docker":
            check = [each.replace(":8000", f":{server.port}") for each in instruction("HEALTHCHECK CMD")]
            assert check[0] == "python"
            subprocess.run([sys.executable, *check[1:]], check=True, timeout=PATIENCE)
        if name == "kubernetes":
            for probe in (container()[f"{kind}Probe"]["httpGet"] for kind in ("readiness", "liveness")):
                headers = {each["name"]: each["value"] for each in probe["httpHeaders"]}
                assert httpx2.get(f"{server.url}{probe['path']}", headers=headers).status_code == 200
        assert httpx2.post(f"{server.url}/channels/news", content="x").status_code == 401
        assert server.stop() == 0


def test_a_container_without_a_credential_says_what_to_give(tmp_path: Path) -> None:
    """Everybody could publish otherwise."""
    command = [*instruction("ENTRYPOINT"), "--log", "memory://"]
    done = run_newswire(*command[1:], folder=tmp_path)
    assert done.returncode == 1
    assert b"--jwt-secret" in done.stderr


def test_the_image_has_what_it_needs() -> None:
    """Its extras exist, and its Python is one that newswire runs on; nothing is copied from beside it."""
    text = read("Dockerfile")
    [extras] = re.findall(r'pip install [^"]*"newswire\[([\w,]+)\]"', text)
    ours = metadata("newswire")
    assert {"server", "auth"} <= set(extras.split(",")) <= set(ours.get_all("Provides-Extra") or ())
    [version] = re.findall(r"(?m)^FROM python:([\d.]+)-slim$", text)
    assert f"Programming Language :: Python :: {version}" in (ours.get_all("Classifier") or ())
    assert "COPY" not in text


def test_supervisors_wait_longer_than_the_grace_time() -> None:
    """Of 10 seconds, or what the file says; Kubernetes counts what comes before the signal too."""
    socket, service = unit("newswire.socket"), unit("newswire.service")
    assert float(service["Service"]["TimeoutStopSec"]) > 10
    assert service["Unit"]["Requires"] == "newswire.socket"
    host, port = (re.findall(rf"--{name} (\S+)", service["Service"]["ExecStart"])[0] for name in ("host", "port"))
    assert socket["Socket"]["ListenStream"] == f"{host}:{port}"
    for parsed in (socket, service):  # systemd knows no comments behind a value
        assert not any("#" in value for section in parsed.values() for value in section.values())
    [deployment, kubernetes] = yaml.safe_load_all(read("kubernetes.yaml"))
    spec = deployment["spec"]["template"]["spec"]
    before = float(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = float(container()["args"][container()["args"].index("--grace") + 1].removesuffix("s"))
    assert spec["terminationGracePeriodSeconds"] > before + grace
    assert kubernetes["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert kubernetes["spec"]["ports"][0]["targetPort"] == container()["ports"][0]["containerPort"]
