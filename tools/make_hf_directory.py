"""Save a tiny GPT-2 with Hugging Face transformers, and what it says, for the tests.

Makes ``tests/golden/hf_gpt2``: a model directory exactly as ``save_pretrained`` leaves
it, with a tokenizer of its own (GPT-2's first hundred merges), and ``expected.npz``: the
ids of a text, the logits after each of them and the greedy continuation. So the tests
can hold, without torch, that such a directory loads as it is. Needs the versions of
``transformers`` and ``torch`` named below::

    pip install torch==2.13.0 transformers==5.23.0
    PYTHONPATH=. python tools/make_hf_directory.py

Running it again gives the same weights (a fixed seed), so the diff shows what a newer
transformers writes differently.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from gpt2core.tokenizer.table import build_vocabulary
from gpt2core.tokenizer.vocabulary import VOCAB_PATH, read_merges

DIRECTORY = Path(__file__).parent.parent / "tests" / "golden" / "hf_gpt2"
N_MERGES = 100
N_GREEDY = 8
TEXT = "Not all heroes wear capes, said the 3 owls; naïve 🦉 they weren't."


def main() -> None:
    merges = read_merges(VOCAB_PATH)[:N_MERGES]
    vocabulary = build_vocabulary(merges)
    endoftext = vocabulary["<|endoftext|>"]
    torch.manual_seed(13)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=96,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,  # the usual 0.02 would leave all logits nearly equal
        bos_token_id=endoftext,
        eos_token_id=endoftext,
    )
    model = GPT2LMHeadModel(config).eval()
    for name, values in model.named_parameters():
        if name.endswith("bias") or ".ln_" in name:  # else all biases are 0, all gains 1
            torch.nn.init.normal_(values, mean=float("ln_" in name and "weight" in name), std=0.2)
    tokenizer = GPT2Tokenizer(vocab=vocabulary, merges=merges)

    shutil.rmtree(DIRECTORY, ignore_errors=True)
    model.save_pretrained(DIRECTORY)
    tokenizer.save_pretrained(DIRECTORY)

    ids = tokenizer(TEXT).input_ids
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
        text = list(ids)
        for _ in range(N_GREEDY):
            text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
    np.savez_compressed(
        DIRECTORY / "expected.npz",
        text=np.array(TEXT),
        ids=np.array(ids),
        logits=logits,
        greedy=np.array(text[len(ids) :]),
    )


if __name__ == "__main__":
    main()
