"""Seeded random weights of any GPT-2 shape, in the file formats that the peers read.

Nothing is downloaded, and every peer gets the same numbers. They are drawn as GPT-2's
own were before training; greedy continuations of them differ from prompt to prompt,
which is all that a comparison of outputs needs.

Invariant: what lies under its final name is whole, so an interrupted run is made good by
the next.
"""

import json
import random
from pathlib import Path

import numpy as np

from gpt2core.engine.packed import PackedWeights
from gpt2core.files import atomic_write
from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.model import Params
from gpt2core.settings import Settings
from gpt2core.store.folder import read_hparams
from gpt2core.store.packed_files import open_packed
from gpt2core.store.weights import load_params, params_from_tensors, save_params, tensor_shapes

# "demo" is the shape, not the weights, of a small model: many steps of little work.
SHAPES = {**MODEL_SIZES, "demo": HParams(n_ctx=512, n_embd=256, n_head=4, n_layer=6)}


def random_params(hparams: HParams, seed: int = 0) -> dict:
    """``params`` with normal weights; norms and biases a little off their neutral values."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(hparams).items():
        tensors[name] = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        if ".ln_" in f".{name}" and name.endswith("weight"):
            tensors[name] += 1
    return params_from_tensors(tensors, hparams.n_layer)


def random_prompts(hparams: HParams, n: int, n_tokens: int) -> list[list[int]]:
    """``n`` prompts of random ids, the same in every run."""
    rng = random.Random(1)
    return [[rng.randrange(hparams.n_vocab) for _ in range(n_tokens)] for _ in range(n)]


def write_model(directory: Path, hparams: HParams, params: Params | None = None) -> None:
    """A model's folder as ``gpt2core.store.loader`` and transformers read it, unless it is there.

    Without ``params`` its weights are random.
    """
    path = directory / "model.safetensors"
    if path.exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    # The weights last, and at one stroke: once they are there, so is everything.
    (directory / "hparams.json").write_text(json.dumps(hparams.to_dict()))
    save_params(path, params or random_params(hparams))


def read_params(directory: Path) -> dict:
    return load_params(directory / "model.safetensors", read_hparams(directory))


def open_weights(directory: Path) -> PackedWeights:
    """The packed weights of a model's folder, in the precision that the settings ask for."""
    precision = Settings.from_environment("weights").weights
    hparams = read_hparams(directory)
    return open_packed(directory / "model.safetensors", hparams, load_params, precision)


def write_gguf(directory: Path, kind: str = "F32") -> Path:
    """The same weights as a GGUF file, for llama.cpp; without a vocabulary.

    ``kind`` is the type of the matrices: F32, F16 or Q8_0.
    """
    import gguf

    path = directory / ("model.gguf" if kind == "F32" else f"model.{kind}.gguf")
    if path.exists():
        return path
    with atomic_write(path) as unfinished:
        writer = gguf.GGUFWriter(unfinished, "gpt2")
        fill_gguf(writer, read_hparams(directory), read_params(directory), kind)
    return path


def fill_gguf(writer, hparams: HParams, params: dict, kind: str = "F32") -> None:
    """Everything that the file says, then the file itself."""
    add_matrix = matrix_writer(writer, kind)
    writer.add_block_count(hparams.n_layer)
    writer.add_context_length(hparams.n_ctx)
    writer.add_embedding_length(hparams.n_embd)
    writer.add_feed_forward_length(4 * hparams.n_embd)
    writer.add_head_count(hparams.n_head)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(hparams.n_vocab)
    writer.add_tokenizer_model("none")
    add_matrix("token_embd.weight", params["wte"])
    add_matrix("output.weight", params["wte"])
    writer.add_tensor("position_embd.weight", params["wpe"])
    for i, block in enumerate(params["blocks"]):
        for name, layer in (
            ("attn_norm", block["ln_1"]),
            ("attn_qkv", block["attn"]["c_attn"]),
            ("attn_output", block["attn"]["c_proj"]),
            ("ffn_norm", block["ln_2"]),
            ("ffn_up", block["mlp"]["c_fc"]),
            ("ffn_down", block["mlp"]["c_proj"]),
        ):
            if "g" in layer:
                writer.add_tensor(f"blk.{i}.{name}.weight", layer["g"])
            else:
                add_matrix(f"blk.{i}.{name}.weight", np.ascontiguousarray(layer["w"].T))
            writer.add_tensor(f"blk.{i}.{name}.bias", layer["b"])
    writer.add_tensor("output_norm.weight", params["ln_f"]["g"])
    writer.add_tensor("output_norm.bias", params["ln_f"]["b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def matrix_writer(writer, kind: str):
    """``add(name, array)``, which adds a float32 matrix as one of type ``kind``."""
    if kind == "F32":
        return writer.add_tensor
    from gguf import GGMLQuantizationType, quants

    gguf_type = GGMLQuantizationType[kind]

    def add(name: str, array) -> None:
        writer.add_tensor(name, quants.quantize(array, gguf_type), raw_dtype=gguf_type)

    return add


def write_ctranslate2(directory: Path) -> Path:
    """The same weights as a CTranslate2 model, float32; token ``i`` is spelled ``"i"``."""
    from ctranslate2.specs import common_spec, transformer_spec

    path = directory / "ctranslate2"
    if path.exists():
        return path
    hparams, params = read_hparams(directory), read_params(directory)
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        hparams.n_layer, hparams.n_head, activation=common_spec.Activation.GELUTanh
    )

    def norm(target, layer):
        target.gamma, target.beta = layer["g"], layer["b"]

    def dense(target, layer):
        target.weight, target.bias = np.ascontiguousarray(layer["w"].T), layer["b"]

    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = params["wte"]
    decoder.position_encodings.encodings = params["wpe"]
    norm(decoder.layer_norm, params["ln_f"])
    decoder.projection.weight = params["wte"]
    for target, block in zip(decoder.layer, params["blocks"], strict=True):
        norm(target.self_attention.layer_norm, block["ln_1"])
        dense(target.self_attention.linear[0], block["attn"]["c_attn"])
        dense(target.self_attention.linear[1], block["attn"]["c_proj"])
        norm(target.ffn.layer_norm, block["ln_2"])
        dense(target.ffn.linear_0, block["mlp"]["c_fc"])
        dense(target.ffn.linear_1, block["mlp"]["c_proj"])
    spec.register_vocabulary([str(i) for i in range(hparams.n_vocab)])
    last = str(hparams.n_vocab - 1)
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = last
    spec.validate()
    spec.optimize(quantization="float32")
    with atomic_write(path) as unfinished:
        unfinished.mkdir()
        spec.save(str(unfinished))
    return path
