"""This project's engine, and its readable model in the loop that teaching code runs."""

from bench import shapes
from bench.peers.peer import Peer, clock


class Ours(Peer):
    """gpt2core's engine."""

    @classmethod
    def environment(cls, threads):
        return {"GPT2_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}

    def __init__(self, directory, threads, n_slots):
        from gpt2core.engine import compiling
        from gpt2core.engine.engine import Engine

        compiling.start().join()
        weights = shapes.open_weights(directory)
        self.engine = Engine(weights, shapes.read_hparams(directory), n_slots)

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
    weight_bytes = 1.0

    @classmethod
    def environment(cls, threads):
        return {**super().environment(threads), "GPT2_WEIGHTS": "int8"}


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
