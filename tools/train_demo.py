"""Train a small GPT-2 on a text, with the forward pass that people read.

Makes what is committed in ``gpt2core/demo``: ``gpt2core.model.gpt2`` itself, given
``jax.numpy`` for its ``xp`` and mapped over a batch, is differentiated by JAX and
improved by optax. Not part of the package: needs ``requirements-dev.txt``. Runs on a
CPU and, unchanged, on GPUs::

    python tools/train_demo.py tales.txt --valid held_out.txt --out model --minutes 90

Texts are UTF-8; a line ``<|endoftext|>`` separates works. With ``--checkpoint FILE`` the
same command, given again after an interruption, goes on where it stopped; ``--init-from
DIR`` starts a new training from exported weights, so that hours add up, and with a larger
``--n-layer`` from a deeper model that predicts the same.

Invariants: what lies in ``--out`` is always a whole model, the best on the validation
text so far; a training that goes on from its checkpoint sees the batches it would have
seen.

Four things make it quick enough for two CPU cores:

- *Vocabulary in play.* Half of GPT-2's 50,257 tokens occur nowhere in a book of tales,
  and a batch uses a few hundred of the rest. So every step hands ``gpt2()`` a ``wte``
  of only some rows (ids renumbered to match): the frequent tokens, those of the batch,
  and a random sample of the others, whose weight in the softmax is raised to stand for
  all that were left out. See :class:`Vocabulary`.
- *Muon* for the matrices of the blocks (Jordan et al., 2024), Adam for the rest.
- *One device a core.* Each takes its part of the batch and they meet once a step,
  not at every product.
- *Memory is kept* between steps, see :func:`prepare_cpu`.
"""

import argparse
import ctypes
import hashlib
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# The project is run from its checkout, and `python tools/…` does not look there.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpt2core.errors import GPT2Error, InputError
from gpt2core.hparams import HParams
from gpt2core.model import gpt2
from gpt2core.store.loader import load_model
from gpt2core.store.weights import save_params
from gpt2core.tokenizer.vocabulary import default_encoder
from tools.bits_per_byte import encode_works, read_works

N_RAREST = 1000  # tokens whose mean stands for those that never occur
LOG_EVERY = 50  # steps
N_LAYER = 4  # of a model trained from nothing


# --- text -> tokens ---------------------------------------------------------------


def token_ids(works: list[str], cache: Path) -> np.ndarray:
    """The ids of ``works``, with ``<|endoftext|>`` around each. ``[n_ids]``

    Kept in the folder ``cache`` under a name that follows from the text: a long one
    takes a while.
    """
    digest = hashlib.sha256("\0".join(works).encode()).hexdigest()[:16]
    path = cache / f"{digest}.npy"
    if not path.exists():
        ids = encode_works(works, default_encoder()).astype(np.uint16)
        write_whole(path, lambda file: np.save(file, ids))
    return np.load(path)


class Vocabulary:
    """The tokens of the training text, most frequent first: a token's *rank* is its place.

    ``gpt2_ids[rank]`` is the token's id in GPT-2's vocabulary. Ids that never occur have
    no rank and no row to train; :func:`whole_model` gives them one.
    """

    def __init__(self, ids: np.ndarray, n_vocab: int):
        counts = np.bincount(ids, minlength=n_vocab)  # [n_ids] -> [n_vocab]
        by_frequency = np.argsort(-counts, kind="stable")  # [n_vocab]
        self.gpt2_ids = by_frequency[: np.count_nonzero(counts)]  # [n_rank]
        self.rank = np.empty(n_vocab, np.int32)  # [n_vocab], of use where counts > 0
        self.rank[by_frequency] = np.arange(n_vocab)

    def __len__(self) -> int:
        return len(self.gpt2_ids)

    def in_play(self, windows, n_rows: int, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose the ``n_rows`` tokens that one step works with.

        Returns their ranks ``[n_rows]``, the logarithm of each one's weight in the
        softmax ``[n_rows]``, and ``windows`` (ranks) renumbered to rows. The frequent
        half and the tokens of the batch have weight 1; the sampled ones share the
        number of all others, so the softmax's sum is right on average.
        """
        n_rows = min(n_rows, len(self))
        chosen = np.zeros(len(self), bool)
        chosen[: n_rows // 2] = True
        chosen[windows] = True
        certain, others = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        n_sampled = n_rows - len(certain)
        if n_sampled < 0:
            raise InputError(
                f"a batch used {len(certain):,} different tokens, more than --rows {n_rows:,}: "
                "make --rows larger or --batch smaller."
            )
        rows = np.concatenate([certain, rng.choice(others, n_sampled, replace=False)])
        log_weight = np.zeros(n_rows, np.float32)
        log_weight[len(certain) :] = math.log(len(others) / max(1, n_sampled)) if len(others) else 0
        row_of = np.zeros(len(self), np.int32)
        row_of[rows] = np.arange(n_rows)
        return rows.astype(np.int32), log_weight, row_of[windows]


def batch_at(ids, step: int, n_batch: int, n_ctx: int, seed: int) -> np.ndarray:
    """The windows ``[n_batch, n_ctx + 1]`` of one step: tokens to read and to predict.

    Every epoch cuts the text into windows at another place and shuffles them anew.
    """
    n_windows = (len(ids) - 1) // n_ctx
    epoch, at = divmod(step, n_windows // n_batch)
    starts = window_starts(len(ids), n_windows, n_ctx, epoch, seed)
    starts = starts[at * n_batch : (at + 1) * n_batch]  # -> [n_batch]
    return ids[starts[:, None] + np.arange(n_ctx + 1)]  # -> [n_batch, n_ctx + 1]


@lru_cache(maxsize=1)
def window_starts(n_ids, n_windows, n_ctx, epoch, seed) -> np.ndarray:
    """Where the windows of one epoch begin, in the order they are used. ``[n_windows]``"""
    rng = np.random.default_rng([seed, epoch])
    offset = rng.integers(0, n_ids - n_windows * n_ctx)
    return offset + n_ctx * rng.permutation(n_windows)


# --- weights ----------------------------------------------------------------------


def initial_params(hparams: HParams, n_rank: int, seed: int) -> dict:
    """Weights to start from: GPT-2's own recipe, normal with deviation 0.02.

    What is added to the residual stream starts smaller, by the square root of how many
    times something is added. Source: Radford et al. (2019), section 2.3. ``wte`` has
    a row for each rank.
    """
    rng, d = np.random.default_rng(seed), hparams.n_embd
    residual = 0.02 / math.sqrt(2 * hparams.n_layer)

    def normal(*shape, std=0.02):
        return rng.normal(0, std, shape).astype(np.float32)

    def dense(n_in, n_out, std=0.02):
        return {"w": normal(n_in, n_out, std=std), "b": np.zeros(n_out, np.float32)}

    def norm():
        return {"g": np.ones(d, np.float32), "b": np.zeros(d, np.float32)}

    blocks = [
        {
            "ln_1": norm(),
            "attn": {"c_attn": dense(d, 3 * d), "c_proj": dense(d, d, residual)},
            "ln_2": norm(),
            "mlp": {"c_fc": dense(d, 4 * d), "c_proj": dense(4 * d, d, residual)},
        }
        for _ in range(hparams.n_layer)
    ]
    wte, wpe = normal(n_rank, d), normal(hparams.n_ctx, d)
    return {"wte": wte, "wpe": wpe, "blocks": blocks, "ln_f": norm()}


def deeper(blocks: list[dict], n_layer: int | None) -> list[dict]:
    """``n_layer`` blocks: ``blocks``, each of the middle ones followed by a copy.

    The copies add nothing to the residual stream at first (``c_proj`` is 0), so the model
    predicts what it predicted. None stands for as many blocks as there are. Raises
    InputError unless ``n_layer`` is from ``len(blocks)`` to twice that.
    """
    n_new = 0 if n_layer is None else n_layer - len(blocks)
    if not 0 <= n_new <= len(blocks):
        raise InputError(
            f"a model of {len(blocks)} layers can start one of {len(blocks)} to "
            f"{2 * len(blocks)} layers, not of {n_layer}: change --n-layer."
        )
    first = (len(blocks) - n_new) // 2
    copied = range(first, first + n_new)
    return [
        block
        for i, original in enumerate(blocks)
        for block in ([original, silent_copy(original)] if i in copied else [original])
    ]


def silent_copy(block: dict) -> dict:
    """A copy of ``block``, with arrays of its own, that adds 0 to the residual stream."""
    copy = jax.tree.map(np.array, block)
    for part in ("attn", "mlp"):
        copy[part]["c_proj"] = jax.tree.map(np.zeros_like, copy[part]["c_proj"])
    return copy


def whole_model(params: dict, vocabulary: Vocabulary, n_vocab: int) -> dict:
    """``params`` with GPT-2's full ``wte``, every number rounded to the file's float16.

    Tokens that never occurred get the mean row of the rarest that did: as improbable as
    those, and harmless in a prompt.
    """
    wte = np.asarray(params["wte"])  # [n_rank, n_embd]
    table = np.tile(wte[-N_RAREST:].mean(axis=0), (n_vocab, 1))  # -> [n_vocab, n_embd]
    table[vocabulary.gpt2_ids] = wte
    return jax.tree.map(
        lambda w: np.asarray(w).astype(np.float16).astype(np.float32), {**params, "wte": table}
    )


# --- learning ---------------------------------------------------------------------


def cross_entropy(params, log_weight, windows, n_head: int, dtype):
    """Mean negative log-likelihood, in nats, of every token of ``windows`` but the first."""
    weights = jax.tree.map(lambda w: w.astype(dtype), params)
    forward = jax.vmap(lambda ids: gpt2(ids, **weights, n_head=n_head, xp=jnp))
    logits = forward(windows[:, :-1])  # [n_batch, n_ctx + 1] -> [n_batch, n_ctx, n_rows]
    logits = logits.astype(jnp.float32)
    wanted = jnp.take_along_axis(logits, windows[:, 1:, None], axis=-1)[..., 0]
    total = jax.nn.logsumexp(logits + log_weight, axis=-1)  # -> [n_batch, n_ctx]
    return jnp.mean(total - wanted)


def with_dropout(params: dict, rate: float, key) -> dict:
    """``params`` with a random part ``rate`` of each block's inner channels set to 0.

    The channels that ``c_proj`` reads (the heads' outputs, the hidden units of the
    feed-forward network) are dropped by their rows of its matrix; those kept are
    scaled up, so that the sum stays the same on average. One choice holds for all
    positions of a step. Source: Srivastava et al. (2014); Gal and Ghahramani (2016).
    """

    def drop(layer, key):
        kept = jax.random.bernoulli(key, 1 - rate, layer["w"].shape[:1])  # [n_in]
        return {**layer, "w": layer["w"] * (kept / (1 - rate))[:, None]}  # [n_in, n_out]

    keys = jax.random.split(key, (len(params["blocks"]), 2))
    blocks = [
        {
            **block,
            "attn": {**block["attn"], "c_proj": drop(block["attn"]["c_proj"], attn_key)},
            "mlp": {**block["mlp"], "c_proj": drop(block["mlp"]["c_proj"], mlp_key)},
        }
        for block, (attn_key, mlp_key) in zip(params["blocks"], keys, strict=True)
    ]
    return {**params, "blocks": blocks}


def make_optimizer(
    lr: float, lr_muon: float, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Gradients clipped to norm 1; Muon for the blocks' matrices, Adam for the rest.

    ``weight_decay`` applies to the blocks' matrices only.
    """

    def matrices(params):
        spec = optax.contrib.MuonDimensionNumbers()
        return jax.tree_util.tree_map_with_path(
            lambda path, w: spec if path[0].key == "blocks" and w.ndim == 2 else None, params
        )

    muon = optax.contrib.muon(
        lr_muon,
        adam_learning_rate=lr,
        adam_b2=0.98,
        weight_decay=weight_decay,
        muon_weight_dimension_numbers=matrices,
    )
    return optax.chain(optax.clip_by_global_norm(1.0), muon)


def make_step(optimizer, n_head: int, dtype, dropout: float = 0.0):
    """The compiled step: new weights and optimizer state from a batch, and its loss.

    ``key`` decides what is dropped, where ``dropout`` is more than 0.
    """

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, rows, log_weight, windows, scale, key):
        def loss_of(params):
            in_play = {**params, "wte": params["wte"][rows]}  # [n_rank, d] -> [n_rows, d]
            if dropout:
                in_play = with_dropout(in_play, dropout, key)
            return cross_entropy(in_play, log_weight, windows, n_head, dtype)

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradients, state, params)
        params = jax.tree.map(lambda w, u: w + scale * u, params, updates)
        return params, state, loss

    return step


def learning_rate_scale(progress: float, step: int, warm_up: int) -> float:
    """Factor of the learning rates: up in ``warm_up`` steps, down along a cosine to 0."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


# --- measuring --------------------------------------------------------------------


@partial(jax.jit, static_argnames="n_head")
def window_losses(params, windows, n_head):
    """Negative log-likelihood, in nats, of each token of ``windows`` but the first."""

    def losses(window):
        logits = gpt2(window[:-1], **params, n_head=n_head, xp=jnp)  # -> [n_ctx, n_vocab]
        wanted = jnp.take_along_axis(logits, window[1:, None], axis=-1)[:, 0]
        return jax.nn.logsumexp(logits, axis=-1) - wanted

    return jax.vmap(losses)(windows)  # [n, n_ctx + 1] -> [n, n_ctx]


def validation_bits(params, ids, n_bytes: int, hparams: HParams, split) -> float:
    """Bits per byte of the text ``ids``, cut into windows end to end.

    The first tokens of a window are predicted from little, so this is an upper bound,
    good for comparing; ``tools/bits_per_byte.py`` measures with windows that overlap.
    """
    n_ctx, n_rows = hparams.n_ctx, 2 * len(split.mesh.devices)
    padded = np.append(ids, np.zeros(n_ctx, ids.dtype)).astype(np.int32)
    nats, n_left = 0.0, len(ids) - 1
    for start in range(0, len(ids) - 1, n_rows * n_ctx):
        starts = np.minimum(start + n_ctx * np.arange(n_rows), len(ids) - 1)
        windows = jax.device_put(padded[starts[:, None] + np.arange(n_ctx + 1)], split)
        losses = np.asarray(window_losses(params, windows, hparams.n_head)).reshape(-1)
        nats += float(losses[:n_left].sum(dtype=np.float64))
        n_left -= len(losses[:n_left])
    return nats / math.log(2) / n_bytes


# --- files ------------------------------------------------------------------------


def write_whole(path: Path, write) -> None:
    """``write(file)`` to a temporary file that then takes the name ``path``.

    Whatever interrupts it, nothing is left behind: a checkpoint is large.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            write(file)
            file.close()  # before it is renamed, so that what was written is all there
            os.replace(file.name, path)
        finally:
            Path(file.name).unlink(missing_ok=True)


def save_model(out: Path, hparams: HParams, params: dict) -> None:
    """Write ``hparams.json`` and ``model.safetensors``, each at one stroke."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(hparams.to_dict(), indent=2) + "\n"
    write_whole(out / "hparams.json", lambda file: file.write(text.encode()))
    os.chmod(out / "hparams.json", 0o644)
    save_params(out / "model.safetensors", params, "F16")


def save_checkpoint(path: Path, tree, position: dict) -> None:
    """``tree`` (weights and optimizer state) and where the training stands, as one .npz."""
    leaves = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}
    write_whole(path, lambda file: np.savez(file, position=json.dumps(position), **leaves))


def load_checkpoint(path: Path, tree, kind: str):
    """The tree and position of a checkpoint. Raises InputError if it is of another ``kind``."""
    with np.load(path) as file:
        position = json.loads(str(file["position"]))
        if position["kind"] != kind:
            raise InputError(
                f"the checkpoint {path} is of another training ({position['kind']}), "
                f"not of this one ({kind}): give --checkpoint another name, or delete it."
            )
        leaves = [file[f"leaf{i}"] for i in range(len(jax.tree.leaves(tree)))]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves), position


# --- the whole --------------------------------------------------------------------


def prepare_cpu() -> None:
    """Settings of XLA and the C library that make a CPU two times as fast, or do nothing.

    One XLA device a core, each without threads of its own. And glibc hands every large
    block back to the system when it is freed: without ``mallopt`` half of the time goes
    to page faults.
    """
    n_devices = os.cpu_count() or 1
    os.environ.setdefault(
        "XLA_FLAGS",
        f"--xla_force_host_platform_device_count={n_devices} --xla_cpu_multi_thread_eigen=false",
    )
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda option, value: None)
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_top_pad, 2**28)


def log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def train(args: argparse.Namespace) -> None:
    """Train as the arguments say. Raises GPT2Error where they cannot be followed."""
    texts = Texts(args.texts, args.valid, args.cache)
    hparams, params = starting_point(args, texts)
    if (len(texts.ranks) - 1) // hparams.n_ctx < args.batch:
        raise InputError(
            f"the training text has {len(texts.ranks):,} tokens, too few for one batch of "
            f"{args.batch} windows of {hparams.n_ctx}: give more text, or a smaller --batch "
            "or --n-ctx."
        )
    optimizer = make_optimizer(args.lr, args.lr_muon, args.weight_decay)
    training = Training(args, texts, hparams, params, optimizer.init(params))
    training.resume()

    platform = training.split.mesh.devices[0].platform
    dtype = jnp.float32 if platform == "cpu" else jnp.bfloat16
    take_step = make_step(optimizer, hparams.n_head, dtype, args.dropout)
    n_devices = len(training.split.mesh.devices)
    log(f"{hparams.n_params:,} parameters, {n_devices} × {platform}, {dtype.__name__}")

    losses: list[float] = []
    first_step = training.step + 1  # compiles, and gets a log line of its own
    since = last_save = time.monotonic()
    while training.progress() < 1:
        losses.append(training.advance(take_step))
        if not math.isfinite(losses[-1]):
            raise InputError(
                f"the loss is {losses[-1]} at step {training.step}: "
                "make --lr and --lr-muon smaller."
            )
        if training.step in (first_step, args.steps) or training.step % LOG_EVERY == 0:
            n_tokens = args.batch * hparams.n_ctx
            log(
                f"step {training.step}, {training.progress():.1%}: loss {np.mean(losses):.3f}, "
                f"{len(losses) * n_tokens / (time.monotonic() - since):,.0f} tokens/s, "
                f"epoch {training.step * n_tokens / len(texts.ranks):.2f}"
            )
            losses, since = [], time.monotonic()
        if time.monotonic() - last_save > 60 * args.save_every:
            training.save()
            losses, since = [], time.monotonic()
            last_save = since
    training.save()
    log(f"done: best {training.best:.4f} bits per byte, in {args.out}")


class Texts:
    """What is learned from, as ranks in its own vocabulary, and what is held out."""

    def __init__(self, train: list[Path], valid: Path, cache: Path):
        """Read and tokenize. Raises InputError for a text that cannot be read."""
        train_works = [work for path in train for work in read_works(path)]
        valid_works = read_works(valid)
        ids = token_ids(train_works, cache)
        self.vocabulary = Vocabulary(ids, default_encoder().n_vocab)
        self.ranks = self.vocabulary.rank[ids]  # [n_ids]
        self.valid_ids = token_ids(valid_works, cache)
        self.n_valid_bytes = sum(len(work.encode()) for work in valid_works)
        log(
            f"{len(train_works)} works, {len(ids):,} tokens, {len(self.vocabulary):,} of them "
            f"different; held out {len(self.valid_ids):,} tokens, {self.n_valid_bytes:,} bytes"
        )


def starting_point(args, texts: Texts) -> tuple[HParams, dict]:
    """Shape and weights to start with; ``wte`` has a row for each rank.

    Raises GPT2Error for a shape that cannot be, or a model that cannot be read.
    """
    if args.init_from:
        model = load_model(str(args.init_from))
        wte = model.params["wte"][texts.vocabulary.gpt2_ids]  # -> [n_rank, n_embd]
        blocks = deeper(model.params["blocks"], args.n_layer)
        hparams = replace(model.hparams, n_layer=len(blocks))
        return hparams, {**model.params, "wte": wte, "blocks": blocks}
    n_vocab = default_encoder().n_vocab
    n_layer = N_LAYER if args.n_layer is None else args.n_layer
    hparams = HParams(n_vocab, args.n_ctx, args.n_embd, args.n_head, n_layer)
    return hparams, initial_params(hparams, len(texts.vocabulary), args.seed)


class Training:
    """Where a training stands: weights, optimizer state, steps and time spent, best figure."""

    def __init__(self, args, texts: Texts, hparams: HParams, params: dict, state):
        self.args, self.texts, self.hparams = args, texts, hparams
        self.params, self.state = params, state
        self.step, self.best = 0, math.inf
        self.begin = time.monotonic()
        # What must agree for a checkpoint to be of this training.
        self.kind = json.dumps([hparams.to_dict(), len(texts.ranks), args.batch, args.seed])
        devices = jax.devices()[: math.gcd(args.batch, len(jax.devices()))]
        mesh = Mesh(np.array(devices), ("batch",))
        self.split = NamedSharding(mesh, PartitionSpec("batch"))  # the first axis is shared out
        self.same = NamedSharding(mesh, PartitionSpec())  # every device has the whole array

    def resume(self) -> None:
        """Take up the checkpoint, if there is one, and put everything on the devices."""
        path, tree = self.args.checkpoint, (self.params, self.state)
        if path and path.exists():
            tree, position = load_checkpoint(path, tree, self.kind)
            self.step, self.best = position["step"], position["best"]
            self.begin = time.monotonic() - position["seconds"]
            log(f"going on from step {self.step} of {path}")
        self.params, self.state = jax.device_put(tree, self.same)

    def progress(self) -> float:
        """How much of the training is done, 0 to 1, by the clock or by steps."""
        args = self.args
        by_clock = (time.monotonic() - self.begin) / (60 * args.minutes) if args.minutes else 0.0
        by_steps = self.step / args.steps if args.steps else 0.0
        return max(by_clock, by_steps)

    def advance(self, take_step) -> float:
        """One step; its loss."""
        args, n_ctx = self.args, self.hparams.n_ctx
        windows = batch_at(self.texts.ranks, self.step, args.batch, n_ctx, args.seed)
        rng = np.random.default_rng([args.seed, self.step])
        rows, log_weight, windows = self.texts.vocabulary.in_play(windows, args.rows, rng)
        rows, log_weight = jax.device_put((rows, log_weight), self.same)
        windows = jax.device_put(windows, self.split)
        scale = jnp.float32(learning_rate_scale(self.progress(), self.step, args.warm_up))
        key = jax.random.fold_in(jax.random.key(args.seed), self.step)
        self.params, self.state, loss = take_step(
            self.params, self.state, rows, log_weight, windows, scale, key
        )
        self.step += 1
        return float(loss)

    def save(self) -> None:
        """Measure, export the model if it is the best so far, write the checkpoint."""
        texts, hparams = self.texts, self.hparams
        model = whole_model(jax.device_get(self.params), texts.vocabulary, hparams.n_vocab)
        bits = validation_bits(
            jax.device_put(model, self.same),
            texts.valid_ids,
            texts.n_valid_bytes,
            hparams,
            self.split,
        )
        is_best = bits < self.best
        if is_best:
            self.best = bits
            save_model(self.args.out, hparams, model)
        exported = ", exported" if is_best else ""
        log(f"step {self.step}: validation {bits:.4f} bits per byte{exported}")
        if self.args.checkpoint:
            seconds = time.monotonic() - self.begin
            position = {"kind": self.kind, "step": self.step, "seconds": seconds, "best": self.best}
            save_checkpoint(self.args.checkpoint, (self.params, self.state), position)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("texts", type=Path, nargs="+", metavar="TEXT", help="UTF-8 texts to learn from")
    add("--valid", type=Path, required=True, help="UTF-8 text to measure on, held out")
    add("--out", type=Path, required=True, help="folder for hparams.json and model.safetensors")
    add("--minutes", type=float, help="how long to train, by the clock on the wall")
    add("--steps", type=int, help="how many steps to train (with --minutes: at most)")
    add("--checkpoint", type=Path, help="file to go on from if it exists, and to write")
    add("--save-every", type=float, default=5, metavar="MINUTES", help="measure and save (5)")
    add("--init-from", type=Path, metavar="DIR", help="start from these weights and their shape")
    add("--n-ctx", type=int, default=256, help="tokens of context (256)")
    add("--n-embd", type=int, default=192, help="channels (192)")
    add("--n-head", type=int, default=3, help="attention heads (3)")
    add("--n-layer", type=int, help=f"layers ({N_LAYER}, or as in --init-from)")
    add("--batch", type=int, default=8, help="windows of n-ctx tokens in a step (8)")
    add("--rows", type=int, default=4096, help="vocabulary in play in a step (4096)")
    add("--lr", type=float, default=6e-3, help="learning rate of Adam (0.006)")
    add("--lr-muon", type=float, default=1e-2, help="learning rate of Muon (0.01)")
    add("--weight-decay", type=float, default=0.0, help="of the blocks' matrices (0)")
    add("--dropout", type=float, default=0.0, help="part of the inner channels dropped (0)")
    add("--warm-up", type=int, default=100, help="steps of warm-up (100)")
    add("--seed", type=int, default=0, help="of weights, batches and samples (0)")
    add(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "glyph-tokens",
        help="folder for tokenized texts",
    )
    args = parser.parse_args(argv)
    if args.minutes is None and args.steps is None:
        parser.error("say how long to train: --minutes or --steps.")
    if not 0 <= args.dropout < 1:
        parser.error(f"--dropout must be at least 0 and less than 1, not {args.dropout}.")
    if not args.weight_decay >= 0:
        parser.error(f"--weight-decay must be at least 0, not {args.weight_decay}.")
    for name in ("minutes", "steps", "save_every", "batch", "rows", "lr", "lr_muon", "warm_up"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            parser.error(f"--{name.replace('_', '-')} must be more than 0, not {value}.")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    prepare_cpu()
    try:
        train(args)
    except GPT2Error as error:
        print(f"train_demo: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
