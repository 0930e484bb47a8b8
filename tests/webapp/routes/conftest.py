"""What the tests of the inside views share: texts by their length, pages, recordings."""

from urllib.parse import urlencode

import pytest

from gpt2core.inside.recording import record_pass
from tests.helpers.inside_pages import STORY
from tests.helpers.web import parse


@pytest.fixture(scope="module")
def story(demo):
    """``story(n)``: the first ``n`` tokens of a story, as text."""
    ids = demo.encoder.encode(STORY)
    return lambda n: demo.encoder.decode(ids[:n])


@pytest.fixture
def look(client):
    """``look(path, **fields)``: the parsed page."""

    def look(path: str, **fields):
        answer = client.get(f"{path}?{urlencode(fields)}")
        assert answer.status_code == 200, answer.text
        return parse(answer.text)

    return look


@pytest.fixture
def record(demo):
    """``record(text)``: the same pass, recorded here."""
    return lambda text: record_pass(demo.encoder.encode(text), demo.params, demo.hparams.n_head)
