"""Write ``tests/golden/scores.npz``: log-probabilities of 200 texts, from transformers.

An independent implementation's log-probabilities for ``Engine.score`` to be compared with. Run
it again when a model of ``tests/helpers/small_models.py`` is added or changed, in the
environment of ``make_logit_goldens.py``::

    /tmp/hf/bin/python -m tools.make_score_goldens

For each model the file holds, under ``<name>/``: ``lengths [n_texts]``; ``ids``, the texts one
after the other; ``logprobs``, those of each text's tokens but the first, one after the other.
"""

import numpy as np
import torch

from tests.helpers.small_models import SCORE_GOLDENS, SMALL_MODELS
from tools.make_logit_goldens import huggingface_model

N_TEXTS = 40  # of each of the five models


def main() -> None:
    torch.set_grad_enabled(False)
    arrays = {}
    for name, small in SMALL_MODELS.items():
        model, h = huggingface_model(small), small.hparams
        random = np.random.RandomState(small.seed + 2)
        lengths = random.randint(2, h.n_ctx + 1, N_TEXTS)
        texts = [random.randint(0, h.n_vocab, n) for n in lengths]
        logprobs = []
        for ids in texts:
            logits = model(torch.tensor([ids.tolist()])).logits[0]  # [n, n_vocab]
            rows = torch.log_softmax(logits[:-1], dim=-1)  # [n - 1, n_vocab]
            logprobs.append(rows[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].numpy())
        arrays[f"{name}/lengths"] = lengths.astype(np.int32)
        arrays[f"{name}/ids"] = np.concatenate(texts).astype(np.int32)
        arrays[f"{name}/logprobs"] = np.concatenate(logprobs)
    np.savez_compressed(SCORE_GOLDENS, **arrays)
    print(f"{SCORE_GOLDENS.name}: {SCORE_GOLDENS.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
