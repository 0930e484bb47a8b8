"""Prompt ids in, generated tokens out, one at a time.

The loop that everybody means by "GPT-2 writes": run the engine, choose a token, feed
it back. The page, the command line and :func:`generate` all go through :func:`stream`.

Invariants: the prompt is read once and no prefix is ever computed again; the caller's
ids are not changed; a stream ends with exactly one token that says why.
"""

from collections.abc import Iterator

from gpt2core.engine.engine import Engine
from gpt2core.engine.sequence import ENDOFTEXT_ID, GeneratedToken, Sequence
from gpt2core.errors import InputError
from gpt2core.hparams import HParams, check_prompt
from gpt2core.sampling import SamplingParams, is_whole


def stream(
    engine: Engine,
    ids: list[int],
    n_tokens: int,
    sampling: SamplingParams | None = None,
    endoftext: int | None = ENDOFTEXT_ID,
) -> Iterator[GeneratedToken]:
    """Continue ``ids`` by up to ``n_tokens`` tokens, yielding each as it is made.

    Greedy unless ``sampling`` says otherwise. Takes a slot of the engine from the first
    token to the last, or until the iterator is closed, which ends the work.
    Raises InputError, before any computing, for a prompt or number that cannot be.
    """
    check_prompt(ids, engine.hparams.n_vocab, engine.hparams.n_ctx)
    check_n_tokens(n_tokens)
    n_ctx, sampling = engine.hparams.n_ctx, sampling or SamplingParams()
    # A list of its own: callers append what comes to theirs, and the prompt must not grow.
    return _stream(engine, Sequence(list(ids), n_tokens, n_ctx, sampling, endoftext))


def check_n_tokens(n_tokens: int) -> None:
    """Raise InputError unless ``n_tokens`` is a number of tokens that can be asked for."""
    if not (is_whole(n_tokens) and n_tokens >= 1):
        raise InputError(
            f"Tokens to generate is {n_tokens}; ask for a whole number of at least 1.",
            "n_tokens",
            minimum=1,
        )


def _stream(engine, sequence):
    # A generator of its own, so that stream() checks at the call, not at the first token.
    slot = engine.open()
    try:
        token = sequence.choose(engine.prefill(slot, sequence.ids))
        while token.finish_reason is None:
            yield token
            token = sequence.choose(engine.step([slot], [token.id])[0])
    finally:
        engine.close(slot)
    yield token  # the last, when the slot is already somebody else's to take


def generate(inputs, params: dict, n_head: int, n_tokens_to_generate: int) -> list[int]:
    """Greedy continuation of the ids ``inputs``, as a list of new ids.

    The call that picoGPT's readers know, but ``inputs`` is left as it was and nothing is
    recomputed. Ends early after ``<|endoftext|>`` or when the context is full. Lays the
    weights out anew at each call (124M: about a second); an Engine does that once.
    """
    if n_tokens_to_generate == 0:
        return []
    n_vocab, n_embd = params["wte"].shape
    hparams = HParams(n_vocab, len(params["wpe"]), n_embd, n_head, len(params["blocks"]))
    tokens = stream(Engine(params, hparams), list(inputs), n_tokens_to_generate)
    return [token.id for token in tokens]
