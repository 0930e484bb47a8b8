"""The soak counts what is expected, keeps what is not, and notices what grows."""

import random
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bench import crowd, soak
from bench.soak import Sample
from tests.helpers.processes import Resources


@pytest.fixture
def client(server):
    """``client(kind)``: a client of the real server."""
    record = crowd.Record()
    return lambda kind: crowd.Client(kind, server.port, 3, record, random.Random(1))


@pytest.fixture
def failing():
    """The port of a server that answers every POST with a 500."""

    class Fails(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(500)
            self.end_headers()
            self.wfile.write(b"the reason")

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Fails) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_text_that_arrives_whole_is_timed_and_its_tokens_are_counted(client):
    reader = client("reader")
    reader.record.over.set()  # no pause after it
    crowd.read_text(reader, 7)
    assert not reader.record.unexplained
    assert reader.record.outcomes == {("reader", "text"): 1}
    assert reader.record.n_tokens == 7
    [(_, first)] = reader.record.first_tokens
    assert first > 0


@pytest.mark.parametrize("act", [crowd.leave, crowd.attack, crowd.look_inside, crowd.score])
def test_what_the_server_answers_well_is_explained(client, act):
    one = client("one")
    one.record.over.set()
    act(one)
    assert not one.record.n_unexplained and one.record.outcomes.total() >= 1


def test_a_500_is_kept_with_its_text(failing):
    record = crowd.Record()
    record.over.set()
    one = crowd.Client("typist", failing, 3, record, random.Random(1))
    crowd.read_text(one)
    assert record.n_unexplained == 1 and not record.outcomes
    assert "500" in record.unexplained[0] and "the reason" in record.unexplained[0]


def test_growth_compares_the_end_with_the_time_after_the_warm_up():
    samples = [
        # Memory grows to the end, files only during the warm-up.
        Sample(100 + n, Resources(threads=20, files=min(30 + n, 40), resident_mb=200 + n))
        for n in range(61)
    ]
    grown = soak.growth(samples, begun=100, seconds=60)
    assert grown == {"resident_mb": 255 / 215, "files": 1}
    assert grown["resident_mb"] > soak.GROWTH["resident_mb"]


def test_a_row_has_the_texts_that_arrived_in_its_minutes():
    record = crowd.Record(first_tokens=[(103, 0.5), (107, 1.0), (108, 3.0), (161, 9.0)])
    samples = [Sample(n, Resources(threads=1, files=1, resident_mb=n)) for n in (105, 111, 160)]
    row = soak.row(record, samples, begun=100, seconds=60, n=1)
    assert row | {"minutes": 0.2, "texts": 2, "first_token_p50_s": 2.0, "resident_mb": 111} == row
