"""Write ``tests/golden/inside.npz``: what transformers and TransformerLens see inside.

Independent implementations of what ``gpt2core.inside`` records, on the small seeded models
of ``tests/helpers/small_models.py``, for ``tests/gpt2core/inside`` to compare with. Run it
again when a model is added or changed. HookedTransformer is not in TransformerLens 4::

    python -m venv /tmp/golden
    /tmp/golden/bin/pip install torch==2.13.0 transformers==5.24.0 transformer_lens==3.9.0 regex
    /tmp/golden/bin/python -m tools.make_inside_goldens

For each model, on the first ``N_TOKENS`` of its ids, float32, under ``<name>/``:

- ``attentions [n_layer, n_head, n_seq, n_seq]`` and ``hidden_states [n_layer + 1, n_seq,
  n_embd]`` of transformers with eager attention; the last state is after the final norm;
- of TransformerLens without folding, centring or a BOS token: ``resid_mid`` and
  ``resid_post [n_layer, n_seq, n_embd]``, ``z [n_layer, n_seq, n_head, d_head]``, ``pattern
  [n_layer, n_head, n_seq, n_seq]``, ``mlp_post [n_layer, n_seq, 4 * n_embd]`` and, of the
  last layer, ``result [n_seq, n_head, n_embd]``;
- its direct logit attribution of ``token`` minus ``against``, the two likeliest after the
  last id, as ``components`` (names) and ``shares``, and of every head as ``head_shares
  [n_layer, n_head]``;
- its logits ``[n_vocab]`` after the last id under interventions in the middle layer:
  ``zero_head``, ``mean_head`` (of the last head), ``zero_attn``, ``zero_mlp``, ``zero_neuron``
  and ``mean_neuron`` (of neuron ``NEURON``), and ``patched``: with the state before that layer
  at ``PATCHED_POSITION`` taken from a pass over the last ``N_TOKENS`` ids.
"""

from functools import partial

import numpy as np
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

from tests.helpers.small_models import INSIDE_GOLDENS, SMALL_MODELS, SmallModel
from tools.make_logit_goldens import huggingface_model

N_TOKENS = 10
NEURON = 5
PATCHED_POSITION = 4


def hooked_model(small: SmallModel, source) -> HookedTransformer:
    """The same weights in TransformerLens, as they are."""
    h = small.hparams
    config = HookedTransformerConfig(
        n_layers=h.n_layer,
        d_model=h.n_embd,
        n_ctx=h.n_ctx,
        d_head=h.n_embd // h.n_head,
        n_heads=h.n_head,
        d_vocab=h.n_vocab,
        act_fn="gelu_new",
        normalization_type="LN",
        eps=1e-5,
        use_attn_result=True,
        default_prepend_bos=False,
        device="cpu",
    )
    model = HookedTransformer(config)
    model.load_and_process_state_dict(
        convert_gpt2_weights(source, config),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return model.eval()


def of_transformers(source, ids: torch.Tensor) -> dict:
    out = source(ids, output_attentions=True, output_hidden_states=True)
    return {
        "attentions": torch.cat(out.attentions),
        "hidden_states": torch.cat(out.hidden_states),
    }


def of_transformer_lens(model: HookedTransformer, ids: torch.Tensor) -> dict:
    logits, cache = model.run_with_cache(ids, remove_batch_dim=True)

    def stacked(name, layers=range(model.cfg.n_layers)):
        return torch.stack([cache[f"blocks.{layer}.{name}"] for layer in layers])

    token, against = logits[0, -1].topk(2).indices.tolist()
    return {
        "resid_mid": stacked("hook_resid_mid"),
        "resid_post": stacked("hook_resid_post"),
        "z": stacked("attn.hook_z"),
        "pattern": stacked("attn.hook_pattern"),
        "mlp_post": stacked("mlp.hook_post"),
        "result": stacked("attn.hook_result", [model.cfg.n_layers - 1])[0],
        "token": torch.tensor(token),
        "against": torch.tensor(against),
        **shares(model, cache, token, against),
    }


def shares(model: HookedTransformer, cache, token: int, against: int) -> dict:
    """Direct logit attribution at the last position, by component and by head."""
    # apply_ln_to_stack centres and divides; without folding the gain is still to come.
    difference = model.ln_final.w * (model.W_U[:, token] - model.W_U[:, against])
    parts, names = cache.decompose_resid(mode="all", return_labels=True)
    heads = cache.stack_head_results()
    by_part, by_head = (
        cache.apply_ln_to_stack(stack, layer=-1)[:, -1] @ difference for stack in (parts, heads)
    )
    n_layer, n_head = model.cfg.n_layers, model.cfg.n_heads
    return {
        "components": np.array(names),
        "shares": by_part,
        "head_shares": by_head.reshape(n_layer, n_head),
    }


def interventions(model: HookedTransformer, ids: torch.Tensor, others: torch.Tensor) -> dict:
    """Logits after the last id while one value of the middle layer is another."""
    block = f"blocks.{model.cfg.n_layers // 2}"
    _, cache = model.run_with_cache(others)

    def last_logits(name, change):
        return model.run_with_hooks(ids, fwd_hooks=[(f"{block}.{name}", change)])[0, -1]

    def zero(value, hook, index=...):
        value[index] = 0
        return value

    def mean(value, hook, index):
        value[index] = value[index].mean(dim=1, keepdim=True)
        return value

    def patch(value, hook):
        value[:, PATCHED_POSITION] = cache[hook.name][:, PATCHED_POSITION]
        return value

    head = (slice(None), slice(None), model.cfg.n_heads - 1)  # of [batch, n_seq, n_head, d_head]
    neuron = (slice(None), slice(None), NEURON)  # of [batch, n_seq, 4 * n_embd]
    return {
        "zero_head": last_logits("attn.hook_z", partial(zero, index=head)),
        "mean_head": last_logits("attn.hook_z", partial(mean, index=head)),
        "zero_attn": last_logits("hook_attn_out", zero),
        "zero_mlp": last_logits("hook_mlp_out", zero),
        "zero_neuron": last_logits("mlp.hook_post", partial(zero, index=neuron)),
        "mean_neuron": last_logits("mlp.hook_post", partial(mean, index=neuron)),
        "patched": last_logits("hook_resid_pre", patch),
    }


def main() -> None:
    torch.set_grad_enabled(False)
    arrays = {}
    for name, small in SMALL_MODELS.items():
        source, ids = huggingface_model(small), torch.tensor([small.ids()[:N_TOKENS]])
        others = torch.tensor([small.ids()[-N_TOKENS:]])
        hooked = hooked_model(small, source)
        found = of_transformers(source, ids) | of_transformer_lens(hooked, ids)
        found |= interventions(hooked, ids, others)
        for key, array in found.items():
            arrays[f"{name}/{key}"] = np.asarray(array)
            print(f"{name}/{key}: {arrays[f'{name}/{key}'].shape}")
    np.savez_compressed(INSIDE_GOLDENS, **arrays)
    print(f"{INSIDE_GOLDENS.name}: {INSIDE_GOLDENS.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
