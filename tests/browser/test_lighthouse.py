"""Lighthouse finds nothing on four pages, on its phone: `make lighthouse`.

Its performance is simulated from measurements of this machine, so a page has three tries, and the
tests are run by hand, on a machine that does nothing else.
"""

import json
import os
import shutil
import subprocess

import pytest

from tests.browser.conftest import ARGUMENTS, HOW_TO_GET_ONE, find_browser

pytestmark = pytest.mark.slow
# The last version for Node.js 18 to 22.18.
LIGHTHOUSE = "lighthouse@12.8.2"
CATEGORIES = ("performance", "accessibility", "best-practices")
PAGES = ("/", "/bpe?text=Not+all+heroes", "/inside?prompt=The+cat+sat+on+the+mat", "/gallery")
FAST = 0.95
TRIES = 3


def report(url: str) -> dict:
    """Lighthouse's report of a page, with its settings for phones."""
    browser = find_browser()
    if browser is None or shutil.which("npx") is None:
        pytest.skip(f"Lighthouse needs Node.js and a browser. {HOW_TO_GET_ONE}")
    flags = " ".join(["--headless=new", *ARGUMENTS])
    done = subprocess.run(
        ["npx", "--yes", LIGHTHOUSE, url, "--quiet", "--output=json", f"--chrome-flags={flags}"]
        + [f"--only-categories={','.join(CATEGORIES)}"],
        env={**os.environ, "CHROME_PATH": browser},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def findings(found: dict, category: str) -> list[str]:
    """The audits of a category that are not perfect."""
    names = [one["id"] for one in found["categories"][category]["auditRefs"] if one["weight"]]
    audits = {name: found["audits"][name] for name in names}
    return [name for name, audit in audits.items() if audit["score"] not in (None, 1)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_accessible_well_made_and_fast(server, page):
    scores = []
    for _ in range(TRIES):
        found = report(server.url + page)
        assert findings(found, "accessibility") == []
        assert findings(found, "best-practices") == []
        scores.append(found["categories"]["performance"]["score"])
        if scores[-1] >= FAST:
            return
    raise AssertionError(f"performance {scores}: {findings(found, 'performance')}")
