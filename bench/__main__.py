"""This project and its peers on the same weights: ``python -m bench COMMAND``.

``decode`` one sequence, ``batch`` several, ``prefill`` a long prompt, ``server`` all of
it through HTTP, ``tokenizer`` a megabyte of English, ``memory`` of worker processes,
``inside`` what the inside views compute, ``views`` the same through HTTP, ``pages`` each
of their pages, ``pair`` both texts of an ablation, ``scoring`` what a long text that is
scored costs a stream, ``soak`` an hour of mixed traffic, ``quality`` what int8 costs on a text,
``charts`` the charts of docs/performance.md.
``--shape`` draws seeded random weights; nothing is downloaded. Peers that are not
installed are left out (``requirements-bench.txt`` has them); one that writes other texts
is not timed.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench import (
    figures,
    inside,
    memory,
    pages,
    pair,
    quality,
    scoring,
    server,
    shapes,
    soak,
    tokenizers,
    views,
)
from bench.arena import Arena, Result, open_arena
from bench.child import ProcessEnded
from bench.peers import PEERS
from bench.report import print_table, processor
from gpt2core.engine import compiling, processors
from gpt2core.errors import GPT2Error
from gpt2core.hparams import MODEL_SIZES
from gpt2core.store.loader import DEMO_NAME, load_model

DEFAULT_PEERS = "transformers,ctranslate2,llama-cpp"
# What gpt2core and NumPy in the peers' processes see instead of the real processor.
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2",
    "OPENBLAS_CORETYPE": "Haswell",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--shape", default="124M", choices=shapes.SHAPES)
    parser.add_argument("--peers", default=DEFAULT_PEERS, help=f"of {', '.join(PEERS)}")
    parser.add_argument("--threads", type=int, default=processors.n_processors())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt_tokens", type=int, help="length of the prompts")
    parser.add_argument("--n_tokens", type=int, default=32, help="tokens to write")
    parser.add_argument("--sequences", default="1,2,4,8", help="batch, server: how many at once")
    parser.add_argument("--workers", type=int, default=2, help="memory: how many processes")
    parser.add_argument(
        "--text", type=Path, help="tokenizer: instead of Python's manual; quality: the text"
    )
    parser.add_argument("--model", default=DEMO_NAME, help="quality: a model's name or folder")
    parser.add_argument("--n_chars", type=int, default=200_000, help="scoring: of the text")
    parser.add_argument("--minutes", type=float, default=60, help="soak: how long")
    parser.add_argument("--sizes", default=",".join(MODEL_SIZES), help="charts: of models")
    parser.add_argument("--out", type=Path, default=Path("docs/charts"), help="charts: where to")
    parser.add_argument("--redraw", action="store_true", help="charts: from the figures there")
    parser.add_argument("--models", type=Path, help="where to keep the weights between runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--weights", choices=("float32", "int8"), help="of gpt2core")
    parser.add_argument("--avx2", action="store_true", help="as on an x86 without AVX-512")
    args = parser.parse_args()
    if args.weights:
        os.environ["GPT2_WEIGHTS"] = args.weights
    if args.avx2:
        os.environ.update(AVX2)
    with tempfile.TemporaryDirectory() as temporary:
        args.directory = (args.models or Path(temporary)) / f"bench-{args.shape}"
        try:
            rows = COMMANDS[args.command](args)
        except (ProcessEnded, GPT2Error) as error:
            sys.exit(f"bench: {error}")
    if args.json:
        facts = {"command": args.command, "shape": args.shape, "threads": args.threads}
        print(json.dumps({**facts, "processor": processor(), "rows": rows}))
    else:
        print(f"\n{args.command}, {args.shape}, {args.threads} threads, {processor()}\n")
        print_table(rows)


def arena(args, n_slots: int, bound: bool = False) -> Arena:
    """Ours first, then the peers that can run here and write what ours writes."""
    shapes.write_model(args.directory, shapes.SHAPES[args.shape])
    names = [
        "gpt2core",
        *filter(None, args.peers.split(",")),
        *(["sgemv", "roofline"] if bound else []),
    ]
    compare = args.weights != "int8"
    return open_arena(names, args.directory, args.threads, n_slots, compare)


def prompts(args, n: int, n_tokens: int) -> list[list[int]]:
    """``n`` prompts of random ids, the same in every run."""
    return shapes.random_prompts(shapes.SHAPES[args.shape], n, n_tokens)


def decode(args) -> list[dict]:
    """One sequence, token by token, against the bound of matrix-vector products."""
    with arena(args, 8, bound=True) as opened:
        texts = prompts(args, 1, args.prompt_tokens or 32)
        results = opened.race(texts, args.n_tokens, args.rounds)
    return rate_rows(args, results, 1)


def batch(args) -> list[dict]:
    """Several sequences together."""
    rows, counts = [], [int(n) for n in args.sequences.split(",")]
    with arena(args, max(8, *counts)) as opened:
        for n in counts:
            texts = prompts(args, n, args.prompt_tokens or 32)
            rows += rate_rows(args, opened.race(texts, args.n_tokens, args.rounds), n)
    return rows


def rate_rows(args, results: dict[str, Result], n_sequences: int) -> list[dict]:
    """Tokens per second of each, how ours compares, and the weights' bytes per second."""
    rates = {
        name: n_sequences * (args.n_tokens - 1) / result.median_rest()
        for name, result in results.items()
    }
    n_params = shapes.SHAPES[args.shape].n_params
    return [
        {
            "sequences": n_sequences,
            "name": name,
            "tokens_per_s": rate,
            "ours_is": rates["gpt2core"] / rate,
            "gb_per_s": weight_bytes(name, args) * n_params * rate / n_sequences / 1e9,
        }
        for name, rate in rates.items()
    ]


def weight_bytes(name: str, args) -> float:
    """Bytes of one weight of a peer, with the weights that the options ask for."""
    own = name in ("gpt2core", "roofline") and args.weights == "int8"
    return 1 if own else PEERS[name].weight_bytes


def prefill(args) -> list[dict]:
    """Time to the first token after a long prompt."""
    n_tokens = args.prompt_tokens or 512
    with arena(args, 8) as opened:
        results = opened.race(prompts(args, 1, n_tokens), 1, args.rounds)
    ours = results["gpt2core"].median_first()
    return [
        {
            "prompt_tokens": n_tokens,
            "name": name,
            "first_token_ms": 1e3 * result.median_first(),
            "ours_takes": ours / result.median_first(),
        }
        for name, result in results.items()
    ]


def serve(args) -> list[dict]:
    """Readers of the real server, and the engine alone with as many sequences."""
    rows, counts = [], [int(n) for n in args.sequences.split(",")]
    args.peers = ""
    with (
        arena(args, max(8, *counts)) as opened,
        server.running(args.directory, args.threads, max(8, *counts)) as port,
    ):
        for n in counts:
            texts = prompts(args, n, args.prompt_tokens or 10)
            own, read = [], []
            for _ in range(args.rounds):
                own += rate_rows(args, opened.race(texts, args.n_tokens, 1), n)
                read.append(server.rate(port, n, args.n_tokens))
            engine = statistics.median(row["tokens_per_s"] for row in own)
            through_http = statistics.median(read)
            rows.append(
                {
                    "readers": n,
                    "tokens_per_s": through_http,
                    "engine_alone": engine,
                    "share": through_http / engine,
                }
            )
    return rows


def tokenizer(args) -> list[dict]:
    text = args.text.read_text("utf-8") if args.text else tokenizers.english(1_000_000)
    return tokenizers.race(args.rounds, text)


def weigh_quality(args) -> list[dict]:
    """What int8 weights cost on the text ``--text``, with the model ``--model``."""
    if args.text is None:
        sys.exit("bench: quality needs a text: --text FILE.")
    args.shape = args.model  # for the heading
    os.environ[processors.THREADS_VARIABLE] = str(args.threads)
    if loading := compiling.start():
        loading.join()
    return quality.measure(load_model(args.model), args.text, args.threads)


def draw_charts(args) -> list[dict]:
    """Speed by sequences, length and size: measured, then drawn to ``--out``."""
    if importlib.util.find_spec("matplotlib") is None:
        sys.exit("bench: charts needs Matplotlib (requirements-bench.txt).")
    from bench import charts  # imports Matplotlib

    if args.redraw:
        measured = figures.read(args.out)
    else:
        measured = figures.measure(chart_plan(args))
        args.out.mkdir(parents=True, exist_ok=True)
        figures.write(measured, args.out)
    for path in charts.draw_all(measured, args.out):
        print(f"drawn: {path}", file=sys.stderr)
    return figures.rows(measured)


def chart_plan(args) -> figures.Plan:
    """What the options of ``charts`` ask for."""
    if args.weights:
        sys.exit("bench: charts measures both kinds of weights; leave --weights out.")
    os.environ["GPT2_WEIGHTS"] = "float32"  # of the peer gpt2core
    sizes = tuple(filter(None, args.sizes.split(",")))
    for size in sizes:
        if size not in shapes.SHAPES:
            sys.exit(f"bench: there is no size {size!r}; there are {', '.join(shapes.SHAPES)}.")
    return figures.Plan(
        shape=args.shape,
        sizes=sizes,
        threads=args.threads,
        rounds=args.rounds,
        n_tokens=args.n_tokens,
        directory=args.directory.parent,
        keep=args.models is not None,
    )


def weigh(args) -> list[dict]:
    """What worker processes share and what each has of its own."""
    if not memory.can_weigh():
        sys.exit(f"bench: memory needs Linux: there is no {memory.SMAPS} here.")
    shapes.write_model(args.directory, shapes.SHAPES[args.shape])
    weights = (args.directory / "model.safetensors").stat().st_size / 2**20
    rows = memory.measure(args.directory, args.workers, n_slots=8)
    return [{"workers": args.workers, "weights_mb": weights, **row} for row in rows]


def look_inside(args) -> list[dict]:
    """A recorded pass, a layer opened, the logit lens, attribution."""
    shapes.write_model(args.directory, shapes.SHAPES[args.shape])
    [ids] = prompts(args, 1, args.prompt_tokens or 64)
    return inside.measure(args.directory, ids, args.rounds)


def look_inside_over_http(args) -> list[dict]:
    """Views of new texts, and eight readers with and without them."""
    shape = shapes.SHAPES[args.shape]
    shapes.write_model(args.directory, shape)
    with server.running(args.directory, args.threads, views.N_CLIENTS) as port:
        n_ids = args.prompt_tokens or 64
        return views.measure(port, shape.n_vocab, n_ids, args.n_tokens, args.rounds)


def look_at_pages(args) -> list[dict]:
    """Each page of the inside views on a text of ``--prompt_tokens``."""
    shapes.write_model(args.directory, shapes.SHAPES[args.shape])
    with server.running(args.directory, args.threads, 1) as port:
        shape = shapes.read_hparams(args.directory)
        return pages.measure(port, shape, args.prompt_tokens or 64, args.rounds)


def read_both_texts(args) -> list[dict]:
    """With and without a head, and two ordinary texts."""
    shapes.write_model(args.directory, shapes.SHAPES[args.shape])
    with server.running(args.directory, args.threads, 2) as port:
        shape = shapes.read_hparams(args.directory)
        return pair.measure(port, shape, args.n_tokens, args.rounds)


def score_over_http(args) -> list[dict]:
    """A stream with and without a long text that is scored."""
    shape = shapes.SHAPES[args.shape]
    shapes.write_model(args.directory, shape)
    with server.running(args.directory, args.threads, 8, GPT2_MAX_CHARS=args.n_chars) as port:
        return scoring.measure(port, args.n_chars, args.n_tokens, args.rounds)


def soak_server(args) -> list[dict]:
    """Mixed traffic at full load. Ends with status 1 if something grew or is unexplained."""
    shapes.write_model(args.directory, shapes.SHAPES[args.shape])
    rows, passed = soak.measure(args.directory, args.threads, args.minutes)
    if not passed:
        print_table(rows)
        sys.exit("bench: the server has not passed the soak.")
    return rows


COMMANDS = {
    "decode": decode,
    "prefill": prefill,
    "batch": batch,
    "server": serve,
    "tokenizer": tokenizer,
    "memory": weigh,
    "inside": look_inside,
    "views": look_inside_over_http,
    "pages": look_at_pages,
    "pair": read_both_texts,
    "scoring": score_over_http,
    "soak": soak_server,
    "quality": weigh_quality,
    "charts": draw_charts,
}

if __name__ == "__main__":
    main()
