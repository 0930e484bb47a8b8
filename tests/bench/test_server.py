"""The benchmark of the served page counts tokens, whatever the markup around them."""

import pytest
from flask import url_for

from bench import pages, pair, scoring, views
from bench import server as bench
from gpt2core.settings import Settings
from tests.helpers.web import HTMX, ROBOT
from webapp import create_app
from webapp.inside.page import INSTRUMENTS


def test_every_generated_token_is_timed_once(slow_server):
    # The robot's tokens arrive alone, and again in the group of the complete character.
    lines = bench.record(slow_server.port, f"Echo: a{ROBOT}b", 12)
    times = bench.token_times(lines)
    assert len(times) == 12
    assert times == sorted(times)


def test_tokens_are_counted_from_data_and_not_from_markup():
    chip = '<li><b class="x generated" id=y data-index="{}">the words: é</b></li>'
    one, two = (f"data: {chip.format(i)}\n".encode() for i in (3, 4))
    # Chunks end anywhere: between two bytes of a character too, and between two line ends.
    middle = two.index("é".encode()) + 1
    stream = [one + b"\n: still here\n\n", one + two[:middle], two[middle:], b"\n"]
    assert bench.token_times(list(enumerate(stream))) == [0, 3]


def test_the_rate_is_that_of_all_clients(slow_server):
    assert HTMX.items() <= bench.FORM.items()  # the stream that browsers receive
    assert 0 < bench.rate(slow_server.port, 2, 30)
    with pytest.raises(RuntimeError, match="2 readers never read at once: 1 is too few"):
        bench.rate(slow_server.port, 2, 1)


def test_views_are_timed_and_streams_counted_with_and_without_one(slow_server, monkeypatch):
    monkeypatch.setattr(views, "WINDOW", 0.5)
    rows = views.measure(slow_server.port, 50_257, 8, n_tokens=30, rounds=1)
    assert [row["unit"] for row in rows] == ["ms", "ms", "ms", "tokens/s", "tokens/s", "%"]
    assert all(row["median"] > 0 for row in rows[:5])
    without, beside, loss = rows[3:]
    assert without["n"] == beside["n"] == loss["n"] >= 1
    assert all(row["quartile_1"] <= row["median"] <= row["quartile_3"] for row in rows)


def test_a_stream_is_counted_with_and_without_a_text_that_is_scored(server, monkeypatch):
    monkeypatch.setattr(scoring, "WINDOW", 1.0)
    rows = scoring.measure(server.port, n_chars=2_000, n_tokens=9, rounds=2)
    assert [row["unit"] for row in rows] == ["tokens/s", "tokens/s", "%", "s", "s"]
    alone, _, share, *whole = rows
    assert alone["median"] > 0 and share["n"] >= 1
    assert all(row["median"] > 0 for row in whole)


def test_the_rate_of_a_window_counts_tokens_that_arrive_in_it():
    assert views.rate_in([[0.5, 1.5, 2.0], [2.5, 3.0]], (1.0, 2.5)) == 2.0


def test_both_texts_of_an_ablation_are_timed_beside_two_ordinary_ones(slow_server, demo):
    rows = pair.measure(slow_server.port, demo.hparams, n_tokens=30, rounds=1)
    ordinary, both = (row["tokens_per_s"] for row in rows)
    assert ordinary > 0 and both > 0
    assert rows[1]["share"] == both / ordinary


def test_every_instrument_is_timed_and_weighed(server, demo):
    rows = {row["page"]: row for row in pages.measure(server.port, demo.hparams, 8, rounds=1)}
    for endpoint, *_ in INSTRUMENTS:
        with create_app(Settings()).test_request_context():
            path = url_for(endpoint)
        if path not in ("/inside/patch", "/inside/reading"):  # needs two texts; has its own row
            assert rows[path]["ms"] > 0 and 1 < rows[path]["kb"] < 300
    assert rows["search of the guided reading"]["ms"] > 0
