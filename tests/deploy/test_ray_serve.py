"""The page on Ray Serve: a cluster of two nodes, two replicas of the page, and its own commands.

Needs `requirements-ray.txt` and Debian's redis-server. Both nodes are processes of this machine.
"""

import http.client
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from playwright.sync_api import expect

from gpt2core.hparams import MODEL_SIZES, HParams
from tests.browser.test_page import generate
from tests.helpers.paths import ROOT
from tests.helpers.ray_cluster import ray_cluster
from tests.helpers.web import (
    HTMX,
    JSON,
    STORY,
    free_port,
    messages,
    parse,
    shown,
    wait_until,
    write_small_model,
)
from tests.webapp.test_limits import redis

yaml = pytest.importorskip("yaml", reason="Ray is missing: pip install -r requirements-ray.txt")
pytestmark = pytest.mark.slow
COUNTER = re.compile(r"^ray_serve_deployment_request_counter_total\{(.*)\} (\S+)$", re.M)
FORM = b"prompt=Slow: on&n_tokens=240"
FORM_FOR_JSON = (
    b"POST /generate HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n"
)
PACE = {"TEST_PACE": "0.03"}


def paced(name="page", route_prefix="/", **variables) -> dict:
    """An application with two replicas of the page, which fit on two nodes only."""
    options = {"num_cpus": 0.75}
    page = {"name": "Page", "autoscaling_config": None, "num_replicas": 2}
    return {
        "name": name,
        "route_prefix": route_prefix,
        "import_path": "tests.helpers.paced_replica:app",
        "runtime_env": {"env_vars": {**PACE, "GPT2_MAX_PER_CLIENT": "40", **variables}},
        "deployments": [{**page, "ray_actor_options": options}],
    }


@pytest.fixture(scope="module")
def texts_of_gunicorn(servers) -> list[str]:
    """What gunicorn answers for the seeds 0 to 5. It starts before Ray, which uses many ports."""
    server = servers("demo")
    return [text_of(server, seed)[0] for seed in range(6)]


@pytest.fixture(scope="module")
def cluster(texts_of_gunicorn):
    """Two nodes with a replica each."""
    with ray_cluster() as cluster:
        cluster.deploy({"applications": [paced()]})
        cluster.wait_until_running()
        yield cluster


@pytest.fixture
def page(cluster):
    """The page through the proxies, two replicas and nothing running."""
    cluster.wait_for_replicas("page", 2)
    page = cluster.at()
    wait_until(lambda: loads(page) == {0}, "nothing running")
    return page


def loads(page) -> set[int]:
    """The numbers of running texts of the replicas, each of which surely answers once."""
    return {page.healthz()["running"] for _ in range(20)}


def queues(page) -> set[int]:
    """The numbers of waiting texts of the replicas."""
    return {page.healthz()["waiting"] for _ in range(20)}


def read(stream) -> tuple[str, list[float]]:
    """The text of a stream, and when each of its messages came."""
    lines, times = [], []
    for line in stream:
        lines.append(line.decode())
        if line == b"\n":
            times.append(time.monotonic())
    return shown(messages(lines)).text("continuation"), times


def text_of(page, seed: int) -> tuple[str, list[float]]:
    with page.generate(HTMX, prompt=STORY, n_tokens=40, seed=seed) as stream:
        return read(stream)


def test_streams_over_replicas_are_those_of_gunicorn(cluster, page, texts_of_gunicorn):
    assert len(set(cluster.replicas("page").values())) == 2  # one on each node
    with ThreadPoolExecutor(6) as pool:
        streams = list(pool.map(lambda seed: text_of(page, seed), range(6)))
    assert [text for text, _ in streams] == texts_of_gunicorn
    for _, times in streams:
        assert len(times) >= 42  # a start, forty tokens, an end
        assert times[-1] - times[0] > 40 * 0.03 / 2


def test_readers_that_leave_free_their_places(page):
    n = 50  # of eighty places; the proxies do not know exactly how full a replica is
    fields = {"prompt": "Slow: on", "n_tokens": 240}
    with ExitStack() as stack:
        streams = [stack.enter_context(page.generate(HTMX, **fields)) for _ in range(n)]
        assert {stream.status for stream in streams} == {200}
        wait_until(lambda: loads(page) == {8}, "all slots taken")
        slowest = 0.0
        for _ in range(20):
            asked = time.monotonic()
            assert page.healthz()["status"] == "ok"
            slowest = max(slowest, time.monotonic() - asked)
        # One client waits for JSON, and one never sends the end of its form.
        for missing in (0, 9000):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", page.port)))
            raw.sendall(FORM_FOR_JSON % (len(FORM) + missing) + FORM)
        waiting = n + 1 - 2 * 8  # odd, so the replicas differ
        wait_until(lambda: sum(queues(page)) == waiting, "the text that is answered with JSON")
        left = time.monotonic()
    wait_until(lambda: loads(page) == {0}, "nothing running")
    freed = time.monotonic() - left
    print(f"{n} streams: /healthz within {slowest:.2f} s; all places free {freed:.1f} s after")
    assert slowest < 1


def parts(stream) -> tuple[str, bool]:
    """The text of a stream, and whether it came to its end."""
    try:
        body, is_whole = stream.read(), True
    except http.client.IncompleteRead as error:
        body, is_whole = error.partial, False
    whole = body[: body.rindex(b"\n\n") + 2].decode()
    return shown(messages(whole.splitlines(keepends=True))).text("continuation"), is_whole


def test_a_killed_replica_ends_its_streams_only(cluster, page):
    old = set(cluster.replicas("page"))
    fields = {"prompt": "Echo: on", "n_tokens": 200}
    with ExitStack() as stack, ThreadPoolExecutor(6) as pool:
        streams = [stack.enter_context(page.generate(HTMX, **fields)) for _ in range(6)]
        assert all(loads(page))
        os.kill(min(old), signal.SIGKILL)
        ends = list(pool.map(parts, streams))
    lengths = sorted(len(text) // 3 for text, is_whole in ends if not is_whole)
    print(f"{len(lengths)} of 6 streams cut after {lengths} tokens")
    assert 1 <= len(lengths) <= 5 and max(lengths) < 200
    assert all(text == " on" * 200 for text, is_whole in ends if is_whole)
    cluster.wait_for_replicas("page", 1, but=old)
    assert text_of(page, 1)[0]


def test_the_page_reports_a_replica_that_was_killed_and_goes_on(cluster, page, visit):
    shown = visit(page.url)
    generate(shown, prompt="Slow: on", n_tokens=20)
    expect(shown.locator("#strip .generated").nth(2)).to_be_attached()
    for process in cluster.replicas("page"):  # it is one of them
        os.kill(process, signal.SIGKILL)
    expect(shown.locator("#problem")).to_contain_text("connection to the server was lost")
    shown.get_by_role("button", name="Continue").click()  # it waits for a new replica
    finished = shown.locator("#status [data-finish-reason]")
    expect(finished).to_be_attached(timeout=120_000)


def statuses(server, addresses) -> list[int]:
    """What a request for one token is answered, for each forwarded address in turn."""
    found = []
    for address in addresses:
        headers = {**JSON, "X-Forwarded-For": address}
        with server.generate(headers, prompt=STORY, n_tokens=1) as answer:
            found.append(answer.status)
    return found


def test_replicas_share_a_rate_limit(cluster):
    port = free_port()
    limited = {
        "GPT2_RATE_LIMIT": "4 per hour",
        "GPT2_RATE_STORAGE": f"redis://127.0.0.1:{port}",
    }
    behind = paced("behind", "/behind", **limited, GPT2_TRUSTED_PROXIES="1")
    direct = paced("direct", "/direct", **limited)
    for one in (behind, direct):
        one["deployments"][0]["ray_actor_options"] = {"num_cpus": 0.25}
    with redis(port):
        cluster.deploy({"applications": [paced(), behind, direct]})
        cluster.wait_until_running()
        page = cluster.at("/behind")
        assert statuses(page, ["203.0.113.1"] * 12) == [200] * 4 + [429] * 8
        assert statuses(page, ["203.0.113.2", "203.0.113.2, 203.0.113.1"]) == [200, 429]
        # Without trusted proxies a forwarded address is no way around the limit.
        forged = [f"203.0.113.{n}" for n in range(6)]
        assert statuses(cluster.at("/direct"), forged) == [200] * 4 + [429] * 2
        cluster.wait_until(lambda: counted(cluster, "behind") == 14, "14 requests counted")
    cluster.deploy({"applications": [paced()]})


def counted(cluster, application: str) -> int:
    """The requests that the replicas of an application have answered, in Ray's own metrics."""
    found = []
    for port in cluster.metrics:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            found += COUNTER.findall(answer.read().decode())
    return sum(round(float(n)) for labels, n in found if f'application="{application}"' in labels)


def test_more_requests_get_more_replicas(cluster):
    growing = paced("growing", "/growing")
    growing["deployments"] = [
        {
            "name": "Page",
            "autoscaling_config": {
                **{"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 2},
                **{"upscale_delay_s": 1, "metrics_interval_s": 1, "look_back_period_s": 2},
            },
            "ray_actor_options": {"num_cpus": 0.5},
        }
    ]
    cluster.deploy({"applications": [paced(), growing]})
    cluster.wait_until_running()
    assert len(cluster.replicas("growing")) == 1
    page = cluster.at("/growing")
    with ExitStack() as stack, ThreadPoolExecutor(6) as pool:
        fields = {"prompt": "Slow: on", "n_tokens": 120}
        streams = [stack.enter_context(page.generate(HTMX, **fields)) for _ in range(6)]
        cluster.wait_for_replicas("growing", 2)
        assert list(pool.map(parts, streams)) == [(" on" * 120, True)] * 6
    cluster.deploy({"applications": [paced()]})


def test_an_update_ends_no_stream(cluster, page):
    old = set(cluster.replicas("page"))
    with ExitStack() as stack, ThreadPoolExecutor(7) as pool:
        fields = {"prompt": "Slow: on", "n_tokens": 60}
        streams = [stack.enter_context(page.generate(HTMX, **fields)) for _ in range(6)]
        begun = time.monotonic()
        assert all(loads(page))  # on both replicas
        cluster.deploy({"applications": [paced(GPT2_MAX_CHARS="99999")]})
        ends, updated = pool.map(parts, streams), threading.Event()
        others = pool.submit(ask_until, updated, page)
        cluster.wait_for_replicas("page", 2, but=old)
        updated.set()
        print(f"both replicas replaced after {time.monotonic() - begun:.0f} s")
        assert list(ends) == [(" on" * 60, True)] * 6
        answered = others.result()
        print(f"{len(answered)} short texts meanwhile")
        assert set(answered) == {200}
    cluster.wait_until_running()


def ask_until(updated: threading.Event, page) -> list[int]:
    """The statuses of short texts, one after the other."""
    found = []
    while not updated.is_set():
        found += statuses(page, ["203.0.113.1"])
    return found


def test_each_model_has_its_path(cluster, tmp_path):
    config = yaml.safe_load((ROOT / "deploy" / "ray_serve.yaml").read_text())
    for application in config["applications"]:
        shape = HParams(n_vocab=50257, n_ctx=64, n_embd=8, n_head=2, n_layer=1)
        write_small_model(tmp_path / application["name"], shape)
        application["runtime_env"]["env_vars"]["GPT2_MODELS_DIR"] = str(tmp_path)
        (deployment,) = application["deployments"]
        deployment["ray_actor_options"] = {"num_cpus": 0.5, "memory": 200_000_000}
    names = [application["name"] for application in config["applications"]]
    assert names == list(MODEL_SIZES)
    cluster.deploy(config)
    cluster.wait_until_running()
    for name in names:
        page = cluster.at(f"/{name}")
        assert page.healthz()["model"] == name
        assert len(page.generate_json(prompt="Not all", n_tokens=2)["tokens"]) == 2
        with page.request("GET", "/") as answer:
            form = parse(answer.read().decode()).all("form")[0]
        assert form.attributes["action"].startswith(f"/{name}/")
