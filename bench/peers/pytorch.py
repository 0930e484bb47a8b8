"""Hugging Face transformers on PyTorch."""

from bench import shapes
from bench.peers.peer import Peer, clock


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
