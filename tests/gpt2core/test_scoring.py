"""A text of any length is scored in windows, each token once."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2core.cli import main
from gpt2core.engine.engine import Engine
from gpt2core.engine.scores import no_scores
from gpt2core.errors import InputError
from gpt2core.model import gpt2
from gpt2core.sampling import log_softmax
from gpt2core.scoring import engine_scorer, overlap, score_text, summarize, windows
from tests.helpers.small_models import (
    SCORE_GOLDENS,
    SMALL_MODELS,
    TOLERANCE,
    TOLERANCES,
    int8_params,
)

TEXT = "Once upon a time, there was a little girl"


@given(st.integers(1, 300), st.integers(2, 70))
def test_windows_score_each_token_but_the_first_once(n_ids, n_ctx):
    scored = []
    for window in windows(n_ids, n_ctx):
        assert 0 < window.end - window.start <= n_ctx and window.end <= n_ids
        scored += range(window.end - window.n_new, window.end)
        # After the first window, each has at least half a context before what it scores.
        assert window.start == 0 or window.end - window.n_new - window.start >= overlap(n_ctx)
    assert scored == list(range(1, n_ids))


def test_a_context_of_one_token_scores_nothing():
    with pytest.raises(InputError):
        list(windows(5, 1))


def test_a_long_text_has_the_scores_of_the_readable_model_in_each_window(small):
    n_ctx = small.hparams.n_ctx
    ids = (small.ids() * 3)[: 2 * n_ctx + 5]
    scores = score_text(engine_scorer(Engine(small.params(), small.hparams)), ids, n_ctx)
    expected = []
    for window in windows(len(ids), n_ctx):
        part = ids[window.start : window.end]
        logits = gpt2(part, **small.params(), n_head=small.hparams.n_head)  # [n, n_vocab]
        rows = [log_softmax(row)[id] for row, id in zip(logits, part[1:], strict=False)]
        expected += rows[-window.n_new :]
    assert np.abs(scores.logprob - np.array(expected)).max() <= TOLERANCE


def test_the_sums_are_those_of_a_text_of_known_probabilities():
    scores = no_scores(4)
    scores.logprob[:] = np.log([0.5, 0.25, 0.5, 0.25])
    found = summarize(scores, n_bytes=3)
    assert found.logprob == pytest.approx(math.log(1 / 64))
    assert found.perplexity == pytest.approx(64**0.25)
    assert found.bits_per_byte == pytest.approx(6 / 3)
    assert summarize(no_scores(0), 0) == type(found)(0.0, None, None)


def test_an_improbable_text_has_a_finite_perplexity():
    scores = no_scores(1)
    scores.logprob[:] = np.finfo(np.float32).min
    assert math.isfinite(summarize(scores, 1).perplexity)


def test_the_likeliest_tokens_are_reported_on_request():
    small = SMALL_MODELS["released_spreads"]
    engine, ids = Engine(small.params(), small.hparams), small.ids()
    scores = engine.score(engine.open(), ids[:-1], ids[1:], n_top=5)
    logits = gpt2(ids[:-1], **small.params(), n_head=small.hparams.n_head)  # [n, n_vocab]
    for i, row in enumerate(logits):
        order = np.argsort(-row, kind="stable")[:5]
        assert scores.top_ids[i].tolist() == order.tolist()
        assert np.abs(scores.top_logprobs[i] - log_softmax(row)[order]).max() <= TOLERANCE


class TestCommandLine:
    @pytest.fixture
    def score(self, capsys):
        """``score(*arguments)``: the status and the two outputs."""

        def score(*arguments):
            status = main(["score", *map(str, arguments)])
            return status, *capsys.readouterr()

        return score

    def test_a_text_is_shown_token_by_token_with_its_sums(self, score, demo):
        status, out, err = score(TEXT)
        lines = out.splitlines()
        assert (status, err) == (0, "")
        ids = demo.encoder.encode(TEXT)
        assert [line.split()[0] for line in lines[1:-1]] == [demo.encoder.decoder[i] for i in ids]
        assert lines[-1].startswith(f"{len(ids)} tokens, log-probability -")
        assert "perplexity" in lines[-1] and "bits per byte" in lines[-1]
        assert "windows" not in lines[-1]

    @pytest.mark.parametrize("weights", ["float32", "int8"])
    def test_json_has_the_numbers_of_the_readable_model(self, score, demo, weights):
        options = ["--weights", weights] if weights != "float32" else []
        found = json.loads(score(TEXT, "--json", *options)[1])
        assert found["weights"] == weights
        ids = demo.encoder.encode(TEXT)
        params = int8_params(demo.params) if weights == "int8" else demo.params
        logits = gpt2(ids, **params, n_head=demo.hparams.n_head)  # [n, n_vocab]
        expected = [log_softmax(row)[id] for row, id in zip(logits, ids[1:], strict=False)]
        assert found["tokens"][0]["logprob"] is None is found["tokens"][0]["rank"]
        logprobs = [token["logprob"] for token in found["tokens"][1:]]
        tolerance = TOLERANCES[weights]
        assert np.abs(np.array(logprobs) - np.array(expected)).max() <= tolerance
        assert found["logprob"] == pytest.approx(sum(expected), abs=10 * tolerance)
        n_bytes = len(TEXT) - len("Once")
        assert found["bits_per_byte"] == pytest.approx(-sum(expected) / math.log(2) / n_bytes, 1e-4)
        assert found["overlap"] == 0

    def test_the_weights_of_the_environment_are_used(self, score, monkeypatch):
        monkeypatch.setenv("GPT2_WEIGHTS", "int8")
        assert json.loads(score(TEXT, "--json")[1])["weights"] == "int8"

    def test_files_are_scored_one_by_one_and_long_ones_in_windows(self, score, tmp_path, demo):
        (tmp_path / "short.txt").write_text(TEXT)
        (tmp_path / "long.txt").write_text(" ".join([TEXT] * 40))
        status, out, _ = score("--files", tmp_path / "short.txt", tmp_path / "long.txt")
        short, long = out.splitlines()
        assert status == 0
        assert "short.txt: " in short and "windows" not in short
        assert f"windows that overlap by {demo.hparams.n_ctx // 2} tokens" in long

    @pytest.mark.parametrize("data", [b"", b"\xff\xfe"])
    def test_a_file_without_text_is_an_error_that_names_it(self, score, tmp_path, data):
        (tmp_path / "odd.txt").write_bytes(data)
        status, out, err = score("--files", tmp_path / "odd.txt")
        assert (status, out) == (1, "") and "odd.txt" in err


def test_log_probabilities_of_texts_are_those_of_transformers(small_name, small):
    with np.load(SCORE_GOLDENS, allow_pickle=False) as arrays:
        lengths, ids, logprobs = (
            arrays[f"{small_name}/{kind}"] for kind in ("lengths", "ids", "logprobs")
        )
    score = engine_scorer(Engine(small.params(), small.hparams))
    texts = np.split(ids, np.cumsum(lengths)[:-1])
    assert len(texts) == 40
    scored = [score_text(score, text.tolist(), small.hparams.n_ctx).logprob for text in texts]
    assert np.abs(np.concatenate(scored) - logprobs).max() <= TOLERANCE
