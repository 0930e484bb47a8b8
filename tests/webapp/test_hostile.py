"""Hostile requests are answered with a message, never with a failure of ours.

``tools/fuzz_requests.py`` sends as many more as one likes.
"""

import pytest

from tests.helpers.hostile import case, problem, send
from tests.helpers.web import HTMX, JSON

N_CASES = 250


def test_no_request_makes_the_app_fail(client):
    wrong = {}
    for seed in range(N_CASES):
        with send(client, case(seed)) as answer:
            if found := problem(answer):
                wrong[seed] = found
    assert not wrong


def test_the_cases_are_of_every_kind():
    cases = [case(seed) for seed in range(N_CASES)]
    assert len({one.address.partition("?")[0] for one in cases}) >= 35
    assert len({one.method for one in cases}) >= 7
    assert case(3) == case(3) and case(3) != case(4)


@pytest.mark.parametrize("headers", [HTMX, JSON, {}])
def test_a_chosen_token_that_is_missing_is_named(client, headers):
    """Case 10187 of the tool: it was a 500."""
    answer = client.post("/append", data={"prompt": "a"}, headers=headers)
    assert answer.status_code == 422


def test_a_posted_text_that_is_too_long_to_look_inside_is_refused(client):
    """Case 34735 of the tool: it was a 500."""
    assert client.post("/inside", data={"prompt": "a" * 3000}).status_code == 422


@pytest.mark.parametrize("host", ["x" * 300, "a b", "[::1"])
def test_an_impossible_host_is_refused_also_where_the_request_is_refused_anyway(client, host):
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}):
        answer = client.get("/", headers=headers, environ_overrides={"HTTP_HOST": host})
        assert answer.status_code < 500
