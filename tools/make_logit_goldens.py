"""Write ``tests/golden/logits.npz``: what Hugging Face's GPT-2 says on small seeded weights.

An independent implementation's word on every model of ``tests/small_models.py``, for
``tests/test_model.py`` to compare with. Run it again when a model is added or changed::

    python -m venv /tmp/hf
    /tmp/hf/bin/pip install torch==2.13.0 transformers==5.23.0 regex
    /tmp/hf/bin/python -m tools.make_logit_goldens

For each model the file holds, under ``<name>/``: ``ids [n_ctx]``; ``logits [n_ctx,
n_vocab]`` of ``GPT2LMHeadModel`` (CPU, float32, eager attention) for them; and
``greedy [n_ctx - 2]``, the ids that it writes greedily after the first two. ``gelu/x``
and ``gelu/y`` are torch's tanh gelu on a line of numbers.
"""

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.helpers.small_models import LOGIT_GOLDENS, SMALL_MODELS, SmallModel

N_GREEDY_PROMPT = 2  # ids that the greedy continuation starts from
MIN_LEAD = 1e-3  # by which each greedy token must win, so that rounding cannot change it


def huggingface_model(small: SmallModel) -> GPT2LMHeadModel:
    """The same weights in transformers' GPT-2, ready to be asked."""
    h, params = small.hparams, small.params()
    config = GPT2Config(
        vocab_size=h.n_vocab,
        n_positions=h.n_ctx,
        n_embd=h.n_embd,
        n_head=h.n_head,
        n_layer=h.n_layer,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="eager",
    )
    weights = {"wte.weight": params["wte"], "wpe.weight": params["wpe"]}
    for i, block in enumerate(params["blocks"]):
        for norm in ("ln_1", "ln_2"):
            weights[f"h.{i}.{norm}.weight"] = block[norm]["g"]
            weights[f"h.{i}.{norm}.bias"] = block[norm]["b"]
        for part in ("attn", "mlp"):
            for layer, dense in block[part].items():
                weights[f"h.{i}.{part}.{layer}.weight"] = dense["w"]
                weights[f"h.{i}.{part}.{layer}.bias"] = dense["b"]
    weights["ln_f.weight"], weights["ln_f.bias"] = params["ln_f"]["g"], params["ln_f"]["b"]

    model = GPT2LMHeadModel(config).to(torch.float32).eval()
    state = {name: torch.from_numpy(array) for name, array in weights.items()}
    model.transformer.load_state_dict(state, strict=True)
    model.tie_weights()
    return model


def main() -> None:
    torch.set_grad_enabled(False)
    arrays = {}
    for name, small in SMALL_MODELS.items():
        model, ids = huggingface_model(small), small.ids()
        logits = model(torch.tensor([ids])).logits[0]
        assert logits.dtype == torch.float32

        written, leads = ids[:N_GREEDY_PROMPT], []
        while len(written) < small.hparams.n_ctx:
            first, second = model(torch.tensor([written])).logits[0, -1].topk(2)[0].tolist()
            leads.append(first - second)
            written.append(int(model(torch.tensor([written])).logits[0, -1].argmax()))
        assert min(leads) > MIN_LEAD, f"{name}: a greedy token wins by {min(leads)} only"

        arrays[f"{name}/ids"] = np.array(ids, dtype=np.int64)
        arrays[f"{name}/logits"] = logits.numpy()
        arrays[f"{name}/greedy"] = np.array(written[N_GREEDY_PROMPT:], dtype=np.int64)
        print(
            f"{name}: logits {logits.min():.2f} to {logits.max():.2f}, "
            f"narrowest greedy lead {min(leads):.4f}, {len(set(written))} different ids"
        )
    x = torch.linspace(-12, 12, 2401)
    arrays["gelu/x"] = x.numpy()
    arrays["gelu/y"] = torch.nn.functional.gelu(x, approximate="tanh").numpy()
    np.savez_compressed(LOGIT_GOLDENS, **arrays)
    print(f"{LOGIT_GOLDENS.name}: {LOGIT_GOLDENS.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
