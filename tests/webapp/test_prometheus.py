"""The dashboard's queries in a real Prometheus that scrapes two processes under load.

Needs the Debian package prometheus, with its promtool.
"""

import json
import shutil
import subprocess
import threading
import urllib.request
from contextlib import ExitStack, contextmanager
from urllib.parse import urlencode

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.web import HTMX, JSON, PATIENCE, free_port, serving, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="the Debian package is not there"),
]
BOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text("utf-8"))
SECONDS = 12  # of load; Prometheus asks each second


def queries() -> list[str]:
    """Every query of the dashboard, with its variables filled in."""
    expressions = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    return [
        text.replace("$__rate_interval", f"{SECONDS}s").replace("$job", "glyph")
        for text in expressions
    ]


class Prometheus:
    """A running one, asked over its HTTP API."""

    def __init__(self, port: int):
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path: str, **fields: str):
        with urllib.request.urlopen(f"{self._url}{path}?{urlencode(fields)}", timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def values(self, query: str) -> list[float]:
        return [float(one["value"][1]) for one in self.get("query", query=query)["result"]]

    def is_scraping(self) -> bool:
        try:
            return self.values("up") == [1]
        except OSError:
            return False


@contextmanager
def prometheus(directory, target: int):
    """Prometheus with ``deploy/prometheus.yml``, but for the address and the interval."""
    text = (ROOT / "deploy" / "prometheus.yml").read_text()
    assert "127.0.0.1:8000" in text and "scrape_interval: 15s" in text
    text = text.replace('targets: ["127.0.0.1:8000"]', f'targets: ["127.0.0.1:{target}"]')
    path, port = directory / "prometheus.yml", free_port()
    path.write_text(text.replace("scrape_interval: 15s", "scrape_interval: 1s"))
    subprocess.run(["promtool", "check", "config", path], check=True, capture_output=True)
    command = ["prometheus", "--config.file", path, "--storage.tsdb.path", directory / "data"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--web.listen-address", f"127.0.0.1:{port}"], stdout=log, stderr=log
        )
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait()


def use(server, stop: threading.Event) -> None:
    """What users do, until ``stop``: texts, candidates, scores, inside views, too much at once."""
    while not stop.is_set():
        with ExitStack() as stack:
            texts = [
                stack.enter_context(server.generate(HTMX, prompt="Echo: on", n_tokens=9))
                for _ in range(8)
            ]
            for text in texts[:-1]:
                text.read()
            texts[-1].close_connection()  # this client leaves
        for path in ("/next", "/score"):
            with server.request("POST", path, {"prompt": "Once upon a time"}, JSON) as answer:
                answer.read()
        with server.request("GET", "/inside/3?prompt=Once") as answer:
            answer.read()


def test_every_query_of_the_dashboard_returns_data(tmp_path):
    settings = {"app": "tests.helpers.paced:create_app()", "WEB_CONCURRENCY": 2, "TMPDIR": tmp_path}
    settings |= {"GPT2_METRICS": "on", "GPT2_MAX_BATCH": 2, "GPT2_MAX_QUEUE": 1, "TEST_PACE": 0.03}
    with serving(tmp_path / "log", **settings) as server, prometheus(tmp_path, server.port) as one:
        wait_until(one.is_scraping, "a scrape")
        ready = 'sum(glyph_workers{state="ready"})'
        wait_until(lambda: one.values(ready) == [2], "two processes")
        stop = threading.Event()
        users = [threading.Thread(target=use, args=(server, stop)) for _ in range(2)]
        for user in users:
            user.start()
        try:
            n_scrapes = "sum(count_over_time(up[10m]))"
            (before,) = one.values(n_scrapes)
            wait_until(lambda: one.values(n_scrapes)[0] > before + SECONDS, "scrapes", 60)
            found = {query: one.values(query) for query in queries()}
            refused = one.values("sum(rate(glyph_requests_refused_total[1m]))")
            names = one.get("label/__name__/values")
        finally:
            stop.set()
            for user in users:
                user.join(PATIENCE)
        with server.request("GET", "/metrics") as answer:
            text = answer.read()
    assert len(found) > 20
    for query, values in found.items():
        assert values and not any(value != value for value in values), f"no data: {query}"  # NaN
    assert refused[0] > 0  # it was full
    assert "glyph_generation_tokens_total" in names
    # Prometheus' own rules for names and units.
    check = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert check.returncode == 0, (check.stdout + check.stderr).decode()


def test_the_dashboard_is_one_that_grafana_reads():
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids) and BOARD["schemaVersion"] >= 39
    assert {"datasource", "job"} == {one["name"] for one in BOARD["templating"]["list"]}
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24 and not taken & cells, panel["title"]
        taken |= cells
        assert panel["description"] and panel["datasource"]["uid"] == "${datasource}"
