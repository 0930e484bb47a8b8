"""GET /metrics: what was counted, who may read it, and that dead processes are forgotten."""

import os
import signal
from contextlib import contextmanager
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpt2core.hparams import HParams
from gpt2core.settings import Settings
from tests.helpers.processes import children
from tests.helpers.web import HTMX, PATIENCE, serving, wait_until, write_small_model
from webapp import create_app

TEXT = {"kind": "text"}


def samples(text: str) -> dict:
    """The value of each series: ``(name, labels)`` -> number, with labels sorted."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Counts:
    """What /metrics says at one time."""

    def __init__(self, text: str):
        self.samples = samples(text)

    def get(self, name: str, **labels: str) -> float:
        return self.samples["glyph_" + name, *sorted(labels.items())]


@contextmanager
def measured(tmp_path, **settings):
    """An app with metrics and a small model, and a client that reads answers to their ends."""
    folder = tmp_path / "model"
    write_small_model(folder, HParams(n_vocab=50257, n_ctx=32, n_embd=8, n_head=1, n_layer=1))
    app = create_app(Settings(model=str(folder), metrics=True, **settings))
    server = app.extensions["model_server"]
    try:
        yield app
    finally:
        server.stop()


def counts(app) -> Counts:
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200 and answer.content_type.startswith("text/plain; version=")
    return Counts(answer.get_data(as_text=True))


def load(app) -> None:
    app.extensions["model_server"].start()
    app.extensions["model_server"].wait_until_loaded(PATIENCE)


def texts_ended(found: Counts) -> float:
    return sum(
        value
        for (name, *labels), value in found.samples.items()
        if name == "glyph_requests_finished_total" and ("kind", "text") in labels
    )


def test_what_was_done_is_counted(tmp_path):
    with measured(tmp_path, rate_limit="6 per hour", max_batch=3) as app:
        before = counts(app)  # it answers before there is a model
        assert before.get("workers", state="ready") == 0
        assert before.get("num_slots") == 3
        assert before.get("model_info", model="model", weights="float32") == 1
        load(app)
        client, fields = app.test_client(), {"prompt": "Once upon a", "n_tokens": 4}
        post = partial(client.post, buffered=True)  # to the end of the answer
        post("/generate", json=fields)
        post("/generate", data=fields, headers=HTMX)
        text = {"model": "model", "prompt": "Once upon", "max_tokens": 2, "n": 2}
        post("/v1/completions", json=text)
        post("/next", json={"prompt": "Once"})
        post("/score", json={"prompt": "Once upon a"})
        assert client.get("/inside/3?prompt=Once", buffered=True).status_code == 200
        with client.post("/generate", data=fields, headers=HTMX) as left:
            next(iter(left.response))
        assert post("/generate", json=fields).status_code == 429
        for _ in range(9):  # more often than work may be started
            found = counts(app)
        wait_until(lambda: texts_ended(counts(app)) == 5, "the end of each text")
        found = counts(app)
    assert found.get("workers", state="ready") == 1
    ended = {
        (dict(labels)["kind"], dict(labels)["finished_reason"]): value
        for (name, *labels), value in found.samples.items()
        if name == "glyph_requests_finished_total" and value
    }
    assert ended["text", "length"] in (4, 5)  # the one that was left may have been complete
    assert ended.get(("text", "client_left"), 0) == 5 - ended["text", "length"]
    assert (ended["next_token", "length"], ended["score", "scored"]) == (1, 1)
    assert found.get("prompt_tokens_total", kind="next_token") == 1
    assert found.get("prompt_tokens_total", kind="score") == 2
    assert 3 + 3 + 2 * 2 <= found.get("prompt_tokens_total", kind="text") <= 3 + 3 + 2 * 2 + 3
    assert 4 + 4 + 2 * 2 + 1 <= found.get("generation_tokens_total") <= 4 + 4 + 2 * 2 + 1 + 4
    n_texts = found.get("time_to_first_token_seconds_count", **TEXT)
    assert n_texts in (4, 5)
    gaps = found.get("inter_token_latency_seconds_count")
    assert gaps == found.get("generation_tokens_total") - n_texts - 1
    assert found.get("request_queue_time_seconds_count") in (6, 7)
    assert found.get("e2e_request_latency_seconds_count", **TEXT) == 5
    assert found.get("requests_refused_total", reason="rate_limit") == 1
    assert found.get("requests_refused_total", reason="queue_full") == 0
    assert found.get("inside_views_total", view="inside.step") == 1
    generate = {"method": "POST", "route": "/generate"}
    assert found.get("http_requests_total", **generate, status="200") == 3
    assert found.get("http_requests_total", **generate, status="429") == 1


def test_a_model_that_cannot_be_loaded_is_seen(tmp_path, caplog):
    app = create_app(Settings(model=str(tmp_path / "nowhere"), metrics=True))
    load(app)
    assert counts(app).get("workers", state="failed") == 1
    app.test_client().post("/generate", json={"prompt": "Once"}, buffered=True)
    assert counts(app).get("requests_refused_total", reason="not_ready") == 1
    app.extensions["model_server"].stop()


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("10.1.2.3", {}, 200),
        ("100.64.0.7", {}, 200),
        ("::1", {}, 200),
        ("fd12::1", {}, 200),
        ("", {}, 200),  # a socket file
        ("8.8.8.8", {}, 404),
        ("2a00:1450::1", {}, 404),
        ("::ffff:8.8.8.8", {}, 404),
        ("127.0.0.1", {"X-Forwarded-For": "10.0.0.1"}, 404),
        ("127.0.0.1", {"Forwarded": "for=10.0.0.1"}, 404),
        ("127.0.0.1", {"Via": "1.1 edge"}, 404),
    ],
)
@pytest.mark.parametrize("proxies", [0, 1])
def test_strangers_and_proxies_get_no_metrics(apps, proxies, address, headers, status):
    environ = {"REMOTE_ADDR": address}
    answer = apps[proxies].test_client().get("/metrics", headers=headers, environ_base=environ)
    assert answer.status_code == status


@pytest.fixture(scope="module")
def apps():
    """Apps behind no proxy and behind one."""
    return [create_app(Settings(metrics=True, trusted_proxies=n)) for n in (0, 1)]


def test_without_the_setting_there_are_no_metrics(client):
    assert client.get("/metrics").status_code == 404


def test_processes_count_together_and_a_dead_one_runs_nothing(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    settings = {"app": "tests.helpers.paced:create_app()", "WEB_CONCURRENCY": 2}
    settings |= {
        "GPT2_REQUEST_LOG": "off",
        "GPT2_METRICS": "on",
        "TMPDIR": temporary,
        "TEST_PACE": 0.03,
    }
    with serving(tmp_path / "log", **settings) as server:

        def found() -> Counts:
            with server.request("GET", "/metrics") as answer:
                return Counts(answer.read().decode())

        wait_until(lambda: found().get("workers", state="ready") == 2, "two processes")
        server.generate_json(prompt="Echo: one", n_tokens=5)
        with server.generate(HTMX, prompt="Slow: one", n_tokens=200) as stream:
            stream.readline()
            wait_until(lambda: found().get("num_requests_running") == 1, "a text that runs")
            for pid in children(server.process.pid):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: server.log.count("Booting worker") == 4, "two new processes")
        wait_until(lambda: found().get("workers", state="ready") == 2, "two processes")
        after = found()
        assert after.get("num_requests_running") == 0
        assert after.get("generation_tokens_total") >= 5
        (folder,) = temporary.glob("glyph-metrics-*")
        assert len(list(folder.glob("gauge_*"))) == 2
        (folder / "counter_1.db").touch()  # as of a process that starts
        assert found().get("generation_tokens_total") == after.get("generation_tokens_total")
        assert server.stop() == 0
    assert list(temporary.glob("glyph-metrics-*")) == []
    assert "request_id" not in server.log  # the lines of requests are switched off


def test_the_app_cannot_be_preloaded_with_metrics(own_server):
    command = 'gunicorn --preload "webapp:create_app()"'
    with pytest.raises(AssertionError, match="GPT2_METRICS is on, so the app cannot be preloaded"):
        with own_server(command=command, GPT2_METRICS="on"):
            pass
