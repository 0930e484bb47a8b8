"""Engines in C++: CTranslate2 and llama.cpp."""

from bench import shapes
from bench.peers.peer import Peer, clock

BATCH_TOKENS = 512  # of one call of llama.cpp


class CTranslate2(Peer):
    """CTranslate2's ``Generator.generate_batch``; its first token is timed in a call of its own."""

    needs = ("ctranslate2",)
    compute_type = "float32"

    def __init__(self, directory, threads, n_slots):
        import ctranslate2

        path = shapes.write_ctranslate2(directory)
        self.generator = ctranslate2.Generator(
            str(path), device="cpu", compute_type=self.compute_type, intra_threads=threads
        )

    def _generate(self, prompts, n_tokens):
        tokens = [[str(i) for i in prompt] for prompt in prompts]
        results = self.generator.generate_batch(
            tokens, max_length=n_tokens, min_length=n_tokens, include_prompt_in_result=False,
            sampling_topk=1,
        )  # fmt: skip
        return [[int(token) for token in result.sequences[0]] for result in results]

    def run(self, prompts, n_tokens):
        start = clock()
        made = self._generate(prompts, 1)
        first = clock() - start
        if n_tokens == 1:
            return made, first, 0.0
        start = clock()
        made = self._generate(prompts, n_tokens)
        return made, first, clock() - start - first


class CTranslate2Int8(CTranslate2):
    """The same, which quantizes the weights to int8 when it loads them."""

    exact = False
    weight_bytes = 1.0
    compute_type = "int8"


class LlamaCpp(Peer):
    """llama.cpp through its C interface, weights and cache in float32, a sequence a slot.

    Its gelu reads a table in half precision, so that now and then, where two tokens are
    as good as equally likely, it writes the other one.
    """

    needs = ("llama_cpp", "gguf")
    weights = "F32"

    def __init__(self, directory, threads, n_slots):
        import llama_cpp

        self.lib = llama_cpp
        hparams = shapes.read_hparams(directory)
        # Kept, because C holds no more than its address.
        self.silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silent, None)
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(
            str(shapes.write_gguf(directory, self.weights)).encode(), model_params
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = hparams.n_ctx * n_slots
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_seq_max = n_slots
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        self.n_vocab = hparams.n_vocab

    def _decode(self, entries):
        """``entries``: (token, position, sequence, wants logits); ids of those that want."""
        return [int(row.argmax()) for row in self._logits(entries)]

    def _logits(self, entries):
        """The logits ``[n_vocab]`` of each entry that wants them, valid until the next call."""
        import numpy as np

        batch, wanted = self.batch, []
        for i, (token, position, sequence, logits) in enumerate(entries):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = logits
            if logits:
                wanted.append(i)
        batch.n_tokens = len(entries)
        if self.lib.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        rows = (self.lib.llama_get_logits_ith(self.context, i) for i in wanted)
        return [np.ctypeslib.as_array(row, (self.n_vocab,)) for row in rows]

    def logits(self, ids, n_logits):
        """The logits ``[n_logits, n_vocab]`` of the last of ``ids``, a text of its own."""
        import numpy as np

        self._clear()
        rows, first = [], len(ids) - n_logits
        for at in range(0, len(ids), BATCH_TOKENS):
            part = range(at, min(at + BATCH_TOKENS, len(ids)))
            entries = [(ids[i], i, 0, i >= first) for i in part]
            rows += [row.copy() for row in self._logits(entries)]
        return np.stack(rows)

    def _clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def run(self, prompts, n_tokens):
        self._clear()
        start = clock()
        made = []
        for sequence, prompt in enumerate(prompts):
            end = len(prompt) - 1
            for at in range(0, len(prompt), BATCH_TOKENS):
                part = range(at, min(at + BATCH_TOKENS, end + 1))
                ids = self._decode([(prompt[i], i, sequence, i == end) for i in part])
            made.append(ids)
        first = clock()
        for step in range(n_tokens - 1):
            entries = [
                (ids[-1], len(prompt) + step, sequence, True)
                for sequence, (prompt, ids) in enumerate(zip(prompts, made, strict=True))
            ]
            for ids, id in zip(made, self._decode(entries), strict=True):
                ids.append(id)
        return made, first - start, clock() - first


class LlamaCppF16(LlamaCpp):
    """The same with weights in half precision."""

    exact = False
    weight_bytes = 2.0
    weights = "F16"


class LlamaCppQ8(LlamaCpp):
    """The same with 8-bit weights, a scale for each 32 of them."""

    exact = False
    weight_bytes = 34 / 32  # 32 int8 and a float16
    weights = "Q8_0"
