"""One program each that continues prompts greedily, behind one interface.

A peer lives in a process of its own (see ``arena.py``), so that neither its threads nor
its settings disturb another. Its :meth:`run` continues several prompts at once and says
when the first tokens were there and when the last.

Every peer is used as its own documentation advises for the CPU, and only what it must do
is timed: token ids in, token ids out. Weights are float32 unless the name says otherwise.
"""

import os
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import shapes

clock = time.perf_counter


class Peer(ABC):
    """``run(prompts, n_tokens)`` -> ``(ids, seconds to the first tokens, for the rest)``."""

    needs: str | None = None  # the module that must be installed
    exact = True  # whether it must write the same texts: its weights are float32

    @classmethod
    def environment(cls, threads: int) -> dict[str, str]:
        """What must be set before the process starts."""
        return {"OMP_NUM_THREADS": str(threads)}

    @abstractmethod
    def __init__(self, directory: Path, threads: int, n_slots: int):
        """Load the model in ``directory``."""

    @abstractmethod
    def run(self, prompts, n_tokens):
        """Continue each of ``prompts`` greedily by ``n_tokens``."""


class Ours(Peer):
    """gpt2core's engine."""

    @classmethod
    def environment(cls, threads):
        return {"GPT2_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}

    def __init__(self, directory, threads, n_slots):
        from gpt2core.engine import compiling
        from gpt2core.engine.engine import Engine
        from gpt2core.settings import Settings
        from gpt2core.store.packed_files import open_packed
        from gpt2core.store.weights import load_params

        compiling.start().join()
        hparams, precision = shapes.read_hparams(directory), Settings.from_environment().weights
        weights = open_packed(directory / "model.safetensors", hparams, load_params, precision)
        self.engine = Engine(weights, hparams, n_slots)

    def run(self, prompts, n_tokens):
        engine = self.engine
        start = clock()
        slots = [engine.open() for _ in prompts]
        made = []
        for slot, prompt in zip(slots, prompts, strict=True):
            made.append([int(engine.prefill(slot, prompt).argmax())])
        first = clock()
        for _ in range(n_tokens - 1):
            logits = engine.step(slots, [ids[-1] for ids in made])
            for ids, id in zip(made, logits.argmax(axis=-1), strict=True):
                ids.append(int(id))
        end = clock()
        for slot in slots:
            engine.close(slot)
        return made, first - start, end - first


class OursInt8(Ours):
    """The same with int8 weights."""

    exact = False

    @classmethod
    def environment(cls, threads):
        return {**super().environment(threads), "GPT2_WEIGHTS": "int8"}


class Transformers(Peer):
    """Hugging Face transformers on PyTorch: its model, its cache, the plainest loop."""

    needs = "transformers"

    def __init__(self, directory, threads, n_slots):
        import torch
        from safetensors.torch import load_file
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.set_num_threads(threads)
        hparams = shapes.read_hparams(directory)
        config = GPT2Config(
            vocab_size=hparams.n_vocab, n_positions=hparams.n_ctx, n_embd=hparams.n_embd,
            n_layer=hparams.n_layer, n_head=hparams.n_head,
        )  # fmt: skip
        self.torch, self.model = torch, GPT2LMHeadModel(config).eval()
        weights = load_file(directory / "model.safetensors")
        self.model.transformer.load_state_dict(weights, strict=False)
        self.model.tie_weights()

    def run(self, prompts, n_tokens):
        torch = self.torch
        start = clock()
        with torch.inference_mode():
            out = self.model(torch.tensor(prompts), use_cache=True, logits_to_keep=1)
            ids = out.logits[:, -1].argmax(-1, keepdim=True)
            made = [ids.tolist()]
            first = clock()
            for _ in range(n_tokens - 1):
                out = self.model(ids, past_key_values=out.past_key_values, use_cache=True)
                ids = out.logits[:, -1].argmax(-1, keepdim=True)
                made.append(ids.tolist())
        end = clock()
        texts = [[ids[row][0] for ids in made] for row in range(len(prompts))]
        return texts, first - start, end - first


class CTranslate2(Peer):
    """CTranslate2's ``Generator.generate_batch``; its first token is timed in a call of its own."""

    needs = "ctranslate2"
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
    compute_type = "int8"


class LlamaCpp(Peer):
    """llama.cpp through its C interface, weights and cache in float32, a sequence a slot.

    Its gelu reads a table in half precision, so that now and then, where two tokens are
    as good as equally likely, it writes the other one.
    """

    needs = "llama_cpp"
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
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = n_slots
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)
        self.n_vocab = hparams.n_vocab

    def _decode(self, entries):
        """``entries``: (token, position, sequence, wants logits); ids of those that want."""
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
        return [int(np.ctypeslib.as_array(row, (self.n_vocab,)).argmax()) for row in rows]

    def run(self, prompts, n_tokens):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        start = clock()
        made = []
        for sequence, prompt in enumerate(prompts):
            end = len(prompt) - 1
            for at in range(0, len(prompt), 512):
                part = range(at, min(at + 512, end + 1))
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
    weights = "F16"


class LlamaCppQ8(LlamaCpp):
    """The same with 8-bit weights, a scale for each 32 of them."""

    exact = False
    weights = "Q8_0"


class PicoGPTStyle(Peer):
    """The loop that teaching code runs: the whole sequence through ``model.gpt2`` each time."""

    @classmethod
    def environment(cls, threads):
        return {"OPENBLAS_NUM_THREADS": str(threads)}

    def __init__(self, directory, threads, n_slots):
        self.hparams, self.params = shapes.read_hparams(directory), shapes.read_params(directory)

    def run(self, prompts, n_tokens):
        from gpt2core.model import gpt2

        def next_id(ids):
            return int(gpt2(ids, **self.params, n_head=self.hparams.n_head)[-1].argmax())

        start = clock()
        made = [[next_id(prompt)] for prompt in prompts]
        first = clock()
        for _ in range(n_tokens - 1):
            for prompt, ids in zip(prompts, made, strict=True):
                ids.append(next_id(prompt + ids))
        return made, first - start, clock() - first


class Sgemv(Peer):
    """No peer but the bound: every weight once through BLAS's matrix-vector product.

    Takes the faster of the two orders a matrix can lie in, shape by shape: for all
    matrices of a shape together, as an engine built on ``sgemv`` could at best choose.
    """

    @classmethod
    def environment(cls, threads):
        return {"OPENBLAS_NUM_THREADS": str(threads)}

    def __init__(self, directory, threads, n_slots):
        import numpy as np

        hparams = shapes.read_hparams(directory)
        d, self.np = hparams.n_embd, np
        matrices = [(d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)] * hparams.n_layer
        matrices.append((d, hparams.n_vocab))
        flat = np.ones(sum(n_in * n_out for n_in, n_out in matrices), np.float32)
        self.products, start = [], 0
        for n_in, n_out in matrices:
            part = flat[start : start + n_in * n_out]
            x, y = np.ones(n_in, np.float32), np.empty(n_out, np.float32)
            self.products.append((part.reshape(n_in, n_out), part.reshape(n_out, n_in), x, y))
            start += n_in * n_out

    def run(self, prompts, n_tokens):
        start, total = clock(), 0.0
        for _ in range(n_tokens - 1):
            # One order after the other: a matrix read twice in a row would come from the
            # processor's cache the second time, and the bound would be one of the cache.
            columns = self.by_shape(lambda columns, rows, x, y: self.np.dot(x, columns, out=y))
            rows = self.by_shape(lambda columns, rows, x, y: self.np.dot(rows, x, out=y))
            total += sum(min(columns[shape], rows[shape]) for shape in columns)
        return None, clock() - start, total

    def by_shape(self, multiply) -> dict[tuple[int, int], float]:
        """Seconds that ``multiply`` takes for all matrices of each shape."""
        seconds: dict[tuple[int, int], float] = {}
        for columns, rows, x, y in self.products:
            start = clock()
            multiply(columns, rows, x, y)
            seconds[columns.shape] = seconds.get(columns.shape, 0.0) + clock() - start
        return seconds


class Roofline(Peer):
    """No peer but the bound of memory: the weights' bytes over the bandwidth measured now."""

    N_BYTES = 2**28  # read by each thread; more than any cache holds

    @classmethod
    def environment(cls, threads):
        return {"OPENBLAS_NUM_THREADS": "1"}

    def __init__(self, directory, threads, n_slots):
        import numpy as np

        from gpt2core.settings import Settings

        item = 1 if Settings.from_environment("weights").weights == "int8" else 4
        self.n_bytes = item * shapes.read_hparams(directory).n_params
        self.pool = ThreadPoolExecutor(threads)
        # A dot product of an array with itself reads each number once.
        self.arrays = [np.ones(self.N_BYTES // 4, np.float32) for _ in range(threads)]

    def run(self, prompts, n_tokens):
        start = clock()
        list(self.pool.map(lambda array: array.dot(array), self.arrays))
        bandwidth = len(self.arrays) * self.N_BYTES / (clock() - start)  # bytes a second
        seconds = self.n_bytes / bandwidth
        return None, seconds, seconds * (n_tokens - 1)


PEERS: dict[str, type[Peer]] = {
    "gpt2core": Ours,
    "gpt2core-int8": OursInt8,
    "transformers": Transformers,
    "ctranslate2": CTranslate2,
    "ctranslate2-int8": CTranslate2Int8,
    "llama-cpp": LlamaCpp,
    "llama-cpp-f16": LlamaCppF16,
    "llama-cpp-q8": LlamaCppQ8,
    "picogpt-style": PicoGPTStyle,
    "sgemv": Sgemv,
    "roofline": Roofline,
}


def process_environment(name: str, threads: int) -> dict[str, str]:
    """The environment of that peer's process."""
    inherited = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    return {**inherited, **PEERS[name].environment(threads)}
