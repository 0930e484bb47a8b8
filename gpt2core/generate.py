"""Prompt ids in, generated tokens out, one at a time.

The loop that makes GPT-2 write: run the model, sample a token, feed the token back. The
command line and :func:`generate` go through :func:`stream`, which decodes one sequence. The
page decodes many together with the same steps, in ``engine/scheduler.py``.

Invariants: the prompt is read once, and no prefix is computed again. The caller's list of
ids is not changed. The last token of a stream, and no other, has a finish reason.
"""

from collections.abc import Collection, Iterable, Iterator

from gpt2core.engine.engine import Engine
from gpt2core.engine.sequence import GPT2_END_IDS, GeneratedToken, Sequence
from gpt2core.errors import InputError
from gpt2core.hparams import HParams, check_prompt
from gpt2core.model import Params
from gpt2core.sampling import SamplingParams, is_whole


def stream(
    engine: Engine,
    ids: list[int],
    n_tokens: int,
    sampling: SamplingParams | None = None,
    end_ids: Collection[int] = GPT2_END_IDS,
) -> Iterator[GeneratedToken]:
    """Continue ``ids`` by up to ``n_tokens`` tokens and yield each when it is generated.

    Decoding is greedy without ``sampling``. The stream holds a slot of the engine from its
    first token to its last, or until the iterator is closed, which ends the generation.
    Each of ``end_ids`` ends it early; a folder's are ``encoder.rules.end_ids``. Raises
    InputError at the call, before any computing, for an invalid prompt or number.
    """
    check_prompt(ids, engine.hparams.n_vocab, engine.hparams.n_ctx, engine.unused_ids)
    check_n_tokens(n_tokens)
    # Copy the list: a caller may append the new tokens to it while the stream runs.
    prompt = list(ids)
    sequence = Sequence(
        prompt, n_tokens, engine.hparams.n_ctx, sampling or SamplingParams(), end_ids
    )
    return _decode(engine, sequence)


def check_n_tokens(n_tokens: int) -> None:
    """Raise InputError unless ``n_tokens`` is a whole number of at least 1."""
    if not (is_whole(n_tokens) and n_tokens >= 1):
        raise InputError(
            f"Tokens to generate is {n_tokens}; ask for a whole number of at least 1.",
            "n_tokens",
            minimum=1,
        )


def _decode(engine: Engine, sequence: Sequence) -> Iterator[GeneratedToken]:
    # Trap: a generator function runs nothing before the first next(). The checks are in
    # stream(), an ordinary function, so that they run at the call.
    slot = engine.open()
    try:
        # Prefill: the whole prompt in one go. Its last position predicts the first new token.
        logits = engine.prefill(slot, sequence.ids)  # [n_vocab]
        token = sequence.sample_next(logits)
        # Decode: feed each token back and get the logits of the one after it. The last token
        # is not fed back, because nothing follows it.
        while token.finish_reason is None:
            yield token
            logits = engine.step([slot], [token.id])[0]  # [n_vocab]
            token = sequence.sample_next(logits)
    finally:
        engine.close(slot)  # also if the caller closes the iterator early
    # Yielded after the slot is closed, so that it is free while the caller handles the token.
    yield token


def generate(
    inputs: Iterable[int], params: Params, n_head: int, n_tokens_to_generate: int
) -> list[int]:
    """Greedy continuation of the ids ``inputs``, as a list of the new ids.

    The signature is picoGPT's, but ``inputs`` is not changed and no prefix is computed
    again. Ends early after ``<|endoftext|>`` or when the context is full. Each call prepares
    the weights for an :class:`Engine` (124M: about a second); for several calls, make one
    engine and use :func:`stream`.
    """
    if n_tokens_to_generate == 0:
        return []
    n_vocab, n_embd = params["wte"].shape
    hparams = HParams(n_vocab, len(params["wpe"]), n_embd, n_head, len(params["blocks"]))
    tokens = stream(Engine(params, hparams), list(inputs), n_tokens_to_generate)
    return [token.id for token in tokens]
