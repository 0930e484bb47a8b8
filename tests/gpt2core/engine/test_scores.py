"""A text's own tokens are scored as the readable model's log-softmax says."""

import numpy as np
import pytest

from gpt2core.engine import engine as engine_module
from gpt2core.engine.engine import Engine
from gpt2core.engine.scores import score_rows
from gpt2core.errors import InputError
from gpt2core.model import gpt2
from tests.helpers.small_models import LONG, SMALL_MODELS, TOLERANCE


def expected_scores(small, ids):
    """Log-probability, rank and entropy of ``ids[1:]``, from all logits in float64."""
    logits = gpt2(ids[:-1], **small.params(), n_head=small.hparams.n_head).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))  # [n, n_vocab]
    chosen = np.take_along_axis(logprobs, np.array(ids[1:])[:, None], axis=1)  # [n, 1]
    ranks = 1 + (logprobs > chosen).sum(axis=1)
    return chosen[:, 0], ranks, -(np.exp(logprobs) * logprobs).sum(axis=1)


def score(engine, ids, *, cut=None):
    """Scores of ``ids[1:]`` in one call, or in two."""
    slot, cut = engine.open(), cut or len(ids) - 1
    parts = [engine.score(slot, ids[:cut], ids[1 : cut + 1])]
    if cut < len(ids) - 1:
        parts.append(engine.score(slot, ids[cut:-1], ids[cut + 1 :]))
    engine.close(slot)
    return parts


def test_scores_are_those_of_the_readable_models_logits(small):
    ids = small.ids()
    [scores] = score(Engine(small.params(), small.hparams), ids)
    logprobs, ranks, entropies = expected_scores(small, ids)
    assert np.abs(scores.logprob - logprobs).max() <= TOLERANCE
    assert np.abs(scores.entropy - entropies).max() <= TOLERANCE
    assert scores.rank.tolist() == ranks.tolist()
    assert [scores.logprob.dtype, scores.rank.dtype] == [np.float32, np.int32]


@pytest.mark.parametrize("cut", [1, 31, 32, 100])
def test_a_text_may_be_scored_in_parts(cut):
    ids, engine = LONG.ids(), Engine(LONG.params(), LONG.hparams)
    [whole], parts = score(engine, ids), score(engine, ids, cut=cut)
    for name in ("logprob", "entropy"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert np.abs(joined - getattr(whole, name)).max() <= TOLERANCE
    assert sum(len(part) for part in parts) == len(ids) - 1


def test_never_more_than_a_chunk_of_logits_is_held(monkeypatch):
    n_rows = []
    monkeypatch.setattr(
        engine_module,
        "score_rows",
        lambda rows, ids, n_top: n_rows.append(len(rows)) or score_rows(rows, ids, n_top),
    )
    score(Engine(LONG.params(), LONG.hparams), LONG.ids())
    assert sum(n_rows) == len(LONG.ids()) - 1
    assert max(n_rows) == engine_module.SCORE_CHUNK


def test_after_scoring_a_text_goes_on_as_after_reading_it():
    small = SMALL_MODELS["released_spreads"]
    ids, engine = small.ids()[:9], Engine(small.params(), small.hparams)
    slot = engine.open()
    engine.score(slot, ids[:-1], ids[1:])
    expected = gpt2(ids, **small.params(), n_head=small.hparams.n_head)[-1]
    assert np.abs(engine.prefill(slot, ids[-1:]) - expected).max() <= TOLERANCE


def test_equal_logits_are_ranked_by_id_and_impossible_tokens_add_no_entropy():
    scores = score_rows(np.array([[0, 0, -np.inf], [0, 0, -np.inf]], np.float32), [1, 0])
    assert scores.rank.tolist() == [2, 1]
    np.testing.assert_allclose(scores.entropy, np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("ids", "targets"), [([1, 2], [2]), ([1, 2], [2, -1]), ([], []), ([1, 2], [2, 10**6])]
)
def test_invalid_texts_are_refused_before_anything_is_read(ids, targets):
    small = SMALL_MODELS["one_head"]
    engine = Engine(small.params(), small.hparams)
    slot = engine.open()
    with pytest.raises(InputError):
        engine.score(slot, ids, targets)
    assert engine.length(slot) == 0
