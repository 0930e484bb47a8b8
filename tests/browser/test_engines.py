"""The main page in Firefox and in WebKit: typing, generating, branching, copying, stopping.

A browser that is missing skips its tests, unless ``CI`` is set: there they fail.
"""

import os

import pytest

from tests.browser.engines import firefox, webkit
from tests.browser.engines import visit as main_page
from tests.browser.engines.firefox import Firefox
from tests.browser.engines.visit import Visit
from tests.browser.engines.webkit import WebKit

ENGINES = {"firefox": (firefox, Firefox), "webkit": (webkit, WebKit)}
pytestmark = [
    pytest.mark.slow,  # `make engines`; CI runs it after the others, while it installs browsers
    # Selenium itself does what it warns of.
    pytest.mark.filterwarnings("ignore:setting remote_server_addr:DeprecationWarning"),
]
each_engine = pytest.mark.parametrize("name", ENGINES)


@pytest.fixture
def start():
    """``start(name, **options)``: a visit in a new browser, which ends with the test."""
    started = []

    def start(name: str, **options) -> Visit:
        module, make = ENGINES[name]
        path = module.find()
        if path is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(module.HOW_TO_GET_ONE)
        started.append(make(path, **options))
        return Visit(started[-1])

    yield start
    for engine in started:
        engine.close()


@each_engine
def test_a_visitor_types_generates_branches_copies_stops_and_looks_inside(start, slow_server, name):
    visit = start(name)
    ids = main_page.type_and_generate(visit, slow_server.url, n_tokens=6)
    kept = main_page.branch(visit, ids)
    main_page.copy_and_paste(visit, kept)
    main_page.stop(visit)
    slow_server.wait_for_load(0)
    assert visit.errors() == []
    main_page.look_inside(visit)


@each_engine
def test_a_visitor_without_scripts_cuts_and_generates(start, server, name):
    main_page.without_scripts(start(name, scripts=False), server.url)


def test_a_phone_with_touch_shows_details_as_a_sheet(start, slow_server):
    visit = start("firefox", phone=True)
    main_page.type_and_generate(visit, slow_server.url, n_tokens=6)
    assert visit.engine.evaluate("[innerWidth, matchMedia('(pointer: coarse)').matches]") == [
        390,
        True,
    ]
    visit.click("#strip .generated")
    box = "document.getElementById('details').getBoundingClientRect()"
    visit.until(f"Math.abs({box}.bottom - innerHeight) < 1", "a sheet at the bottom")
    for size in ("#details .close", "#generate"):
        height = f"document.querySelector('{size}').getBoundingClientRect().height"
        assert visit.engine.evaluate(height) >= 44
    visit.click("#details .close")
    visit.until("!document.querySelector('#details.open')", "closed details")
    assert visit.engine.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.errors() == []
