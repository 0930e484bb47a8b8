"""The fast forward pass: a prompt once, then one token a step, over a KV cache.

``generate`` drives it: :meth:`Engine.prefill` reads the prompt, :meth:`Engine.step`
adds a token. Attention needs, of the tokens before, only their keys and values; those
are kept in a :class:`KVCache` allocated once, so a step costs one token however long
the text is. The numbers are those of ``model.gpt2``, which is the reference.

Invariants: nothing already in the cache is computed again; float32 throughout; an
Engine holds weights only, so threads may share it, each with a cache of its own; only
the last position is multiplied with the vocabulary.
"""

import math

import numpy as np

from gpt2core.errors import InputError
from gpt2core.hparams import HParams, check_prompt
from gpt2core.model import gelu, layer_norm, linear

PREFILL_CHUNK = 128  # tokens read at a time: bounds the attention scores held at once


class KVCache:
    """Keys and values of one sequence, ``n_ctx`` places, of which ``length`` are filled."""

    def __init__(self, hparams: HParams):
        d_head = hparams.n_embd // hparams.n_head
        shape = (hparams.n_layer, hparams.n_head, hparams.n_ctx, d_head)
        # np.empty leaves pages untouched, so a short text costs little memory.
        self.keys = np.empty(shape, dtype=np.float32)  # [n_layer, n_head, n_ctx, d_head]
        self.values = np.empty(shape, dtype=np.float32)  # [n_layer, n_head, n_ctx, d_head]
        self.length = 0


class Engine:
    """Runs one GPT-2 for any number of caches. ``params`` is the nested dict of weights."""

    def __init__(self, params: dict, hparams: HParams):
        self.hparams = hparams
        self._params = params
        self._wte_t = params["wte"].T  # [n_embd, n_vocab], a view

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""
        return KVCache(self.hparams)

    def prefill(self, ids, cache: KVCache) -> np.ndarray:
        """Read a prompt into an empty cache; logits ``[n_vocab]`` of what follows it.

        Raises InputError for a prompt that is empty, too long or not of this vocabulary.
        """
        check_prompt(ids, self.hparams.n_vocab, self.hparams.n_ctx)
        for start in range(0, len(ids), PREFILL_CHUNK):
            x = self._hidden(ids[start : start + PREFILL_CHUNK], cache)
        return self._logits(x[-1])

    def step(self, id: int, cache: KVCache) -> np.ndarray:
        """Append one token to the cache; logits ``[n_vocab]`` of what follows it.

        Raises InputError when all ``n_ctx`` places of the cache are filled.
        """
        if cache.length >= self.hparams.n_ctx:
            raise InputError(f"The context of {self.hparams.n_ctx:,} tokens is full.", "prompt")
        return self._logits(self._hidden([id], cache)[-1])

    def _hidden(self, ids, cache: KVCache) -> np.ndarray:
        """The blocks' output for ``ids``, which follow what the cache holds, and remember them."""
        start, end = cache.length, cache.length + len(ids)
        wte, wpe = self._params["wte"], self._params["wpe"]
        x = wte[np.asarray(ids)] + wpe[start:end]  # [n_new] -> [n_new, n_embd]
        for layer, block in enumerate(self._params["blocks"]):
            normed = layer_norm(x, **block["ln_1"])  # [n_new, n_embd]
            x += self._attention(normed, block["attn"], layer, cache)  # [n_new, n_embd]
            a = linear(layer_norm(x, **block["ln_2"]), **block["mlp"]["c_fc"])  # -> [n_new, 4*n_embd]
            x += linear(gelu(a), **block["mlp"]["c_proj"])  # -> [n_new, n_embd]
        cache.length = end
        return x

    def _attention(self, x: np.ndarray, attn: dict, layer: int, cache: KVCache) -> np.ndarray:
        """Causal attention of new tokens over the cache and themselves."""
        n_new, n_embd = x.shape
        n_head = self.hparams.n_head
        d_head = n_embd // n_head
        start, end = cache.length, cache.length + n_new
        qkv = linear(x, **attn["c_attn"])  # [n_new, n_embd] -> [n_new, 3*n_embd]
        q, k, v = qkv.reshape(n_new, 3, n_head, d_head).transpose(1, 2, 0, 3)
        cache.keys[layer, :, start:end] = k  # [n_head, n_new, d_head]
        cache.values[layer, :, start:end] = v  # [n_head, n_new, d_head]
        keys, values = cache.keys[layer, :, :end], cache.values[layer, :, :end]
        q = q * np.float32(1 / math.sqrt(d_head))  # [n_head, n_new, d_head]
        scores = q @ keys.transpose(0, 2, 1)  # -> [n_head, n_new, end]
        if n_new > 1:  # a single token may see everything; of several, none sees later ones
            scores[:, np.arange(end) > np.arange(start, end)[:, None]] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)  # [n_head, n_new, end]
        heads = scores @ values  # -> [n_head, n_new, d_head]
        merged = heads.transpose(1, 0, 2).reshape(n_new, n_embd)  # -> [n_new, n_embd]
        return linear(merged, **attn["c_proj"])  # -> [n_new, n_embd]

    def _logits(self, x: np.ndarray) -> np.ndarray:
        """Scores of every token to come after the position ``x``: ``[n_embd] -> [n_vocab]``."""
        return layer_norm(x, **self._params["ln_f"]) @ self._wte_t
