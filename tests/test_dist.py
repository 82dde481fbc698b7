"""What is published: the wheel and the sdist, as `make dist` builds them, and the wheel in an empty environment."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

import httpx2
import pytest
import yaml
from packaging.requirements import Requirement
from tests.fixtures.ports import free_port
from tests.fixtures.serve import PATIENCE, clean_environment

import newswire

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def build(folder: Path, out: Path, umask: int) -> list[Path]:
    """Build the sdist and the wheel of the sources in a folder."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out)],
        cwd=folder,
        env=os.environ | {"SOURCE_DATE_EPOCH": "1767225600"},
        umask=umask,
        capture_output=True,
        check=True,
    )
    return sorted(out.iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel."""
    [wheel, sdist] = build(ROOT, tmp_path_factory.mktemp("dist"), 0o022)
    return sdist, wheel


def test_each_build_gives_the_same_bytes(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Also from the unpacked sdist, in another folder, on another day, with another umask."""
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    for path in folder.rglob("*"):
        os.utime(path, (10**9, 10**9))
    [again_wheel, again_sdist] = build(folder, tmp_path / "dist", 0o077)
    assert again_wheel.read_bytes() == wheel.read_bytes()
    assert again_sdist.read_bytes() == sdist.read_bytes()


def test_what_is_in_them(built: tuple[Path, Path]) -> None:
    """All of src/newswire, what describes it, and nothing else."""
    sdist, wheel = built
    ours = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "newswire").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == ours
    assert packed >= {
        "newswire/py.typed",
        "newswire/browser/newswire.js",
        "newswire/browser/newswire.css",
        "newswire/server/static/console.html",
        "newswire/server/static/console.js",
        "newswire/server/static/console.css",
    }
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    more = {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
    assert names == {f"src/{name}" for name in ours} | more


@pytest.fixture(scope="module")
def empty(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has nothing but the wheel."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-cache-dir"]
    offline = ["--no-index", "--find-links", str(built[1].parent)]
    subprocess.run([*pip, *offline, "newswire"], check=True, capture_output=True, cwd=folder)
    return python.parent


THREE_LINES = """
from newswire import EventSourceResponse, Hub
hub = Hub("memory://")
async def app(scope, receive, send): await EventSourceResponse(hub.subscribe("news"))(scope, receive, send)
"""

# Calls it as a server does, until it has sent an event.
CALL = """
import asyncio, sys
from newswire import errors
async def main():
    sent, arrived = [], asyncio.Event()
    async def send(message):
        sent.append(message)
        if b"It works" in message.get("body", b""):
            arrived.set()
    async def receive():
        await asyncio.Event().wait()
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "extensions": {}}
    async with hub:
        stream = asyncio.create_task(app(scope, receive, send))
        while not sent:
            await asyncio.sleep(0)
        await hub.publish("news", "It works")
        await asyncio.wait_for(arrived.wait(), 30)
        stream.cancel()
        await asyncio.wait([stream])
asyncio.run(main())
foreign = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
foreign -= {"newswire", "__main__", "sitecustomize"}  # the last is the system's
print(sorted(name for name in foreign if not name.startswith("_")))
"""


def test_three_lines_need_nothing_but_the_wheel(empty: Path, tmp_path: Path) -> None:
    """A hub and its response run without any other package."""
    (tmp_path / "app.py").write_text(THREE_LINES + CALL)
    done = subprocess.run([empty / "python", "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_a_command_says_which_extra_it_needs(empty: Path, tmp_path: Path) -> None:
    """In one line."""
    for command in ([empty / "newswire", "serve"], [empty / "python", "-m", "newswire", "serve"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert done.stderr == (
            "newswire: this command needs click, which is not installed: pip install 'newswire[server]'\n"
        )


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("newswire.server", "starlette", "server"),
        ("newswire.server.auth", "starlette", "server"),
        ("newswire.delivery.uvicorn", "httptools", "server"),
        ("newswire.edge", "httpx2", "client"),
        ("newswire.otel", "opentelemetry", "otel"),
    ],
)
def test_a_module_says_which_extra_it_needs(empty: Path, tmp_path: Path, module: str, package: str, extra: str) -> None:
    """In words, and with the name of what is missing."""
    command = [empty / "python", "-c", f"import {module}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert f"needs {package}, which is not installed: pip install 'newswire[{extra}]'\n" in done.stderr


def test_the_version_needs_no_extra(empty: Path) -> None:
    """It answers where nothing but the wheel is installed."""
    done = subprocess.run([empty / "newswire", "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"newswire, version {newswire.__version__}\n", done.stderr


@pytest.mark.parametrize("start", [["newswire", "serve"], ["python", "-m", "newswire", "run", "app:app"]], ids=" ".join)
def test_the_wheel_serves(empty: Path, tmp_path: Path, start: list[str]) -> None:
    """With the packages of its extra beside it: the server with its console, and the three lines."""
    (tmp_path / "app.py").write_text(THREE_LINES)
    port = free_port()
    # Of the folder of a path no `.pth` file counts, so newswire is that of the wheel.
    paths = os.pathsep.join({sysconfig.get_path("purelib"), *_more_packages()})
    server = subprocess.Popen(
        [empty / start[0], *start[1:], "--port", str(port)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=clean_environment({"PYTHONPATH": paths}),
    )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with httpx2.stream("GET", url, timeout=PATIENCE) as answer:
                    assert answer.status_code == 200
                    kind = answer.headers["content-type"]
                break
            except httpx2.ConnectError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        if "serve" in start:
            assert kind.startswith("text/html")
            assert httpx2.get(f"{url}/newswire.js").status_code == 200
        else:
            assert kind.startswith("text/event-stream")
    finally:
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=PATIENCE)
    assert server.returncode == 0, said


def _more_packages() -> set[str]:
    """Where the packages of this environment are, if not all are in its own folder."""
    import click
    import uvicorn

    return {str(Path(module.__file__).parents[1]) for module in (click, uvicorn)}


def test_each_package_that_comes_along_has_a_permissive_licence() -> None:
    """By what the installed packages say of themselves."""
    script = [sys.executable, "scripts/licences.py"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "\nuvicorn " in done.stdout
    assert not any(line.startswith("LOOK") for line in done.stdout.splitlines())


def test_the_bill_of_materials(built: tuple[Path, Path], tmp_path: Path) -> None:
    """It names both files with their hashes, and each package of the extras; and it is the same when made again."""
    made = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        for path in built:
            shutil.copy(path, folder)
        script = [sys.executable, ROOT / "scripts" / "sbom.py", folder]
        done = subprocess.run(script, env=os.environ | {"SOURCE_DATE_EPOCH": "1767225600"}, timeout=60)
        assert done.returncode == 0
        [path] = folder.glob("*.json")
        made.append(path.read_bytes())
    assert made[0] == made[1]
    bill = json.loads(made[0])
    root = bill["metadata"]["component"]
    assert root["version"] == newswire.__version__
    hashes = {one["url"]: one["hashes"][0]["content"] for one in root["externalReferences"]}
    assert hashes == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in built}
    parts = {one["name"].lower(): one for one in bill["components"]}
    assert {"uvicorn", "starlette", "asyncpg", "redis", "pyjwt", "pydantic"} <= parts.keys()
    assert not parts.keys() & {"pytest", "mkdocs", "newswire"}
    assert all(one["licenses"] and one["scope"] == "optional" for one in parts.values())


def test_an_audit_says_so_where_it_knows_nothing() -> None:
    """What it finds is the advisory service's word of today, so it is not asked for here."""
    script = [sys.executable, ROOT / "scripts" / "audit.py"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=110)
    assert done.returncode in (0, 1, 2), done.stderr
    assert "packages audited" in done.stdout
    assert ("NOT AUDITED" in done.stderr) == (done.returncode == 2)


def test_the_recipe_for_conda_is_of_this_version() -> None:
    """And asks for the same Python, and for what the extras ask for."""
    recipe = yaml.safe_load((ROOT / "docs" / "deploy" / "conda-recipe.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert recipe["context"]["version"] == project["version"]
    assert recipe["requirements"]["run"] == [f"python {project['requires-python']}"]
    extras = project["optional-dependencies"]
    asked = [text for name in ("client", "server", "redis", "nats", "postgres", "auth") for text in extras[name]]
    wanted = {one.name.lower(): str(one.specifier) for one in map(Requirement, asked) if one.name != "newswire"}
    listed = dict(text.split(" ") for text in recipe["requirements"]["run_constraints"])
    listed["redis"] = listed.pop("redis-py")  # its name there
    assert listed == wanted


# Django has no types of its own, so what derives from its classes can't have any. Nothing but Django uses these.
BELOW_DJANGO = {
    "newswire.integrations.django.apps.NewswireConfig",
    "newswire.integrations.django.management.commands.newswire_publish.Command",
    "newswire.integrations.django.management.commands.newswire_serve.Command",
}


def test_all_public_types_of_the_wheel_are_known(empty: Path, tmp_path: Path) -> None:
    """To pyright, from annotations alone, with the packages of the extras beside the wheel."""
    environment = tmp_path / "environment"
    shutil.copytree(empty.parent, environment, symlinks=True)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join({sysconfig.get_path("purelib"), *_more_packages()}))
    tool = [Path(sys.executable).with_name("pyright"), "--ignoreexternal", "--outputjson", "--verifytypes", "newswire"]
    more = {"VIRTUAL_ENV": str(environment), "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(tool, cwd=tmp_path, env=os.environ | more, capture_output=True, text=True, timeout=110)
    found = json.loads(done.stdout)["typeCompleteness"]
    assert found["pyTypedPath"].startswith(str(environment))
    public = [symbol for symbol in found["symbols"] if symbol["isExported"]]
    assert len(public) > 4000
    unknown = {symbol["name"]: symbol["diagnostics"] for symbol in public if not symbol["isTypeKnown"]}
    assert {name: why for name, why in unknown.items() if name not in BELOW_DJANGO} == {}
