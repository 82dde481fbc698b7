"""The docs site: built strictly, without a dead link, of use on a phone, in the dark and without scripts."""

from __future__ import annotations

import functools
import http.server
import importlib
import inspect
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from tests.browser.conftest import Page
from tests.docs.site import ROOT, Built, build

from newswire.delivery.problem import ERRORS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # the first builds the site
BELOW = "newswire/"  # where the site is on its host, as in its own address
SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 900}}
# A page of each kind: the first, code and pictures, wide tables, the API, diffs.
KINDS = ("", "tutorial/", "server/", "api/newswire.errors/", "moving/flask-sse/")
# Text that is hard to read on what is behind it (WCAG 2.2, 1.4.3), and what is wider than the window.
FAINT = Path(__file__).with_name("contrast.js").read_text()
WIDE = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the built site."""
    base = tmp_path_factory.getbasetemp()
    return build(base if worker_id == "master" else base.parent, BELOW)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Built]:
    """Every page by its address below the site's."""
    found = sorted(site.rglob("*.html"))
    return {path.relative_to(site).as_posix().removesuffix("index.html"): Built.of(path.read_text()) for path in found}


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    """The site, as a web server of static files sends it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site.parent)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{BELOW}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    page = Page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def bare() -> Iterator[Page]:
    """A browser that runs no scripts of pages."""
    page = Page(context={"javaScriptEnabled": False})
    yield page
    page.close()


def test_no_link_is_dead(site: Path, pages: dict[str, Built]) -> None:
    """Pages, files and anchors of the site exist; addresses of other sites have a form that can be followed."""
    dead = []
    for address, page in pages.items():
        for link in page.links:
            parts = urlsplit(urljoin(f"http://site/{address}", link))
            if parts.netloc != "site":
                if parts.scheme not in ("https", "http") or not re.fullmatch(r"[\w.-]+(:\d+)?", parts.netloc):
                    dead.append((address, link))
                continue
            path = unquote(parts.path).lstrip("/").removesuffix("index.html")
            if address == "404.html" and link.startswith("/newswire/"):  # its links are from the site's own address
                path = path.removeprefix("newswire/")
            if path in pages:
                if parts.fragment and unquote(parts.fragment) not in pages[path].ids:
                    dead.append((address, link))
            elif not (site / path).is_file():
                dead.append((address, link))
    assert dead == []


def test_no_link_of_the_repository_is_dead(pages: dict[str, Built]) -> None:
    """Of the files that are no pages: what they lead to exists, with its anchor if it is a page."""
    dead = []
    for path in [*ROOT.glob("*.md"), ROOT / "js" / "README.md"]:
        prose = re.sub(r"^```.*?^```$|`[^`]*`", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)", prose):
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve()
            if not target.exists():
                dead.append((path.name, link))
            elif anchor and target.is_relative_to(ROOT / "docs"):
                address = target.relative_to(ROOT / "docs").as_posix().removesuffix(".md").removesuffix("README") + "/"
                if anchor not in pages[address.replace("//", "/")].ids:
                    dead.append((path.name, link))
    assert dead == []


def test_each_page_has_a_title_and_headings_in_order(pages: dict[str, Built]) -> None:
    """One h1, no level left out on the way down, and a text for each picture."""
    titles = [page.title for page in pages.values()]
    assert len(pages) > 50
    assert all(titles)
    for address, page in pages.items():
        if address == "404.html":
            continue
        assert page.headings.count(1) == 1, address
        steps = zip(page.headings, page.headings[1:], strict=False)
        assert page.headings[0] == 1, address
        assert all(after <= before + 1 for before, after in steps), (address, page.headings)
        assert page.without_alt == [], address


def test_an_errors_type_leads_to_its_section(pages: dict[str, Built]) -> None:
    """The address in an error answer is one of this site."""
    assert ERRORS.endswith("/errors/")
    assert {"invalid_event", "log_uncertain", "upstream_timeout"} <= pages["errors/"].ids


def methods(value: object, name: str) -> Iterator[str]:
    """The methods of a public class of ours, inherited ones too, that say what they do."""
    if not isinstance(value, type) or not value.__module__.startswith("newswire."):
        return
    for each, found in inspect.getmembers(value, inspect.isroutine):
        ours = str(getattr(found, "__module__", "")).startswith("newswire.")
        if ours and found.__doc__ and not each.startswith("_"):
            yield f"{name}.{each}"


def test_every_public_name_has_a_place(pages: dict[str, Built]) -> None:
    """On the page of its package, where the list of all that is public leads to."""
    listed = re.findall(r"^## `([\w.]+)`$|^\| `(\w+)` \|", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    package, missing = "", []
    homes: dict[int, str] = {}
    everywhere = {anchor for page in pages.values() for anchor in page.ids}
    for heading, name in listed:
        package = heading or package
        if name and f"{package}.{name}" not in pages[f"api/{package}/"].ids:
            missing.append(f"{package}.{name}")
        if name:
            value = getattr(importlib.import_module(package), name)
            homes.setdefault(id(value), f"{package}.{name}")
            missing += [each for each in methods(value, homes[id(value)]) if each not in everywhere]
    assert len(listed) > 100
    assert missing == []


@pytest.mark.browser
def test_every_page_fits_a_phone(url: str, pages: dict[str, Built], bare: Page) -> None:
    """Nothing is wider than the window."""
    bare.order(size=SIZES["phone"])
    wide = {}
    for address in pages:
        bare.order(goto=url + address)
        if over := bare.evaluate(WIDE):
            wide[address] = over
    assert wide == {}


@pytest.mark.browser
@pytest.mark.parametrize(("size", "scheme"), [("phone", "dark"), ("desktop", "light")])
@pytest.mark.parametrize("address", KINDS)
def test_a_page_can_be_read(url: str, chromium: Page, size: str, scheme: str, address: str) -> None:
    """Nothing is wider than the window, every text has the contrast that it needs, and nothing is in the console."""
    chromium.order(size=SIZES[size], media={"colorScheme": scheme})
    chromium.order(goto=url + address)
    assert chromium.evaluate(WIDE) == 0
    assert chromium.evaluate(FAINT) == []
    assert chromium.errors + chromium.console == []


@pytest.mark.browser
def test_the_search_finds(url: str, chromium: Page) -> None:
    """What is typed leads to a page."""
    chromium.order(size=SIZES["desktop"], goto=url)
    chromium.evaluate(
        """(() => {
          const field = document.querySelector('input[name=query]');
          field.focus();
          field.value = 'idempotency key';
          field.dispatchEvent(new KeyboardEvent('keyup', { bubbles: true, key: 'y' }));
        })()"""
    )
    found = chromium.until(
        "[...document.querySelectorAll('.md-search-result__link')].map(each => each.href)?.join(' ')"
    )
    assert "/errors/?h=idempotency+key#idempotency_key_reused" in found


@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES)
def test_without_scripts(url: str, bare: Page, size: str) -> None:
    """All text is there, and the pages lead to each other."""
    bare.order(size=SIZES[size])
    bare.order(goto=f"{url}tutorial/")
    shown = bare.evaluate("document.querySelector('article').innerText")
    assert "kill -9" in shown
    assert "from newswire import" in shown
    assert bare.evaluate(WIDE) == 0
    assert bare.evaluate("document.querySelector('.md-footer__link--next').checkVisibility()")
