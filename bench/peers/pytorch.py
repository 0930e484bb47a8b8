"""Hugging Face transformers on PyTorch, at three precisions."""

import warnings

from bench import shapes
from bench.peers.peer import Peer, clock


class Transformers(Peer):
    """Hugging Face transformers on PyTorch: its model, its cache, the plainest loop."""

    needs = ("transformers",)

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
        model = GPT2LMHeadModel(config).eval()
        model.transformer.load_state_dict(load_file(directory / "model.safetensors"), strict=False)
        model.tie_weights()
        self.torch, self.model = torch, self.converted(model)

    def converted(self, model):
        """The float32 model at this peer's precision."""
        return model

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


class TransformersBF16(Transformers):
    """The same with weights, activations and cache in bfloat16."""

    exact = False
    weight_bytes = 2.0

    def converted(self, model):
        import torch

        return model.to(torch.bfloat16)


class TransformersInt8(Transformers):
    """The same with PyTorch's dynamic quantization: int8 weights, one scale a matrix.

    Activations are rounded to 8 bits in each product. The embedding stays float32, and the
    head has an int8 copy of it.
    """

    exact = False
    weight_bytes = 1.0

    def converted(self, model):
        import torch
        from transformers.pytorch_utils import Conv1D

        # Dynamic quantization replaces nn.Linear only. Conv1D has the same weights, transposed.
        layers = [(name, part) for name, part in model.named_modules() if isinstance(part, Conv1D)]
        for name, layer in layers:
            model.set_submodule(name, as_linear(layer))
        with warnings.catch_warnings():
            # PyTorch advises another package, torchao, for new code.
            warnings.simplefilter("ignore")
            return torch.ao.quantization.quantize_dynamic(
                model, {torch.nn.Linear}, dtype=torch.qint8
            )


def as_linear(layer):
    """The ``torch.nn.Linear`` that computes what a ``Conv1D`` of transformers computes."""
    import torch

    n_in, n_out = layer.weight.shape
    linear = torch.nn.Linear(n_in, n_out)
    linear.weight.data = layer.weight.data.T.contiguous()
    linear.bias.data = layer.bias.data
    return linear
