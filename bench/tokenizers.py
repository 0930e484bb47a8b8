"""Tokenizers on a megabyte of English: ours, OpenAI's way in Python, and two in Rust."""

import ast
import gc
import importlib.util
import statistics
import time
from pathlib import Path

import regex

from gpt2core.tokenizer.alphabet import byte_alphabet
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.pattern import SPLIT_PATTERN
from gpt2core.tokenizer.table import ENDOFTEXT
from gpt2core.tokenizer.vocabulary import VOCAB_PATH, read_merges


def english(n_bytes: int) -> str:
    """English that every Python brings along: its manual's topics, then its docstrings."""
    from pydoc_data import topics

    parts, size = list(topics.topics.values()), 0
    size = sum(len(part) for part in parts)
    for path in sorted(Path(ast.__file__).parent.glob("*.py")):
        if size >= n_bytes:
            break
        tree = ast.parse(path.read_text("utf-8", errors="ignore"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                parts.append(ast.get_docstring(node) or "")
                size += len(parts[-1])
    return "\n".join(parts).encode()[:n_bytes].decode("utf-8", errors="ignore")


class ReferenceStyle:
    """Byte-level BPE as OpenAI's release goes about it, written anew: for each word a list
    of symbols, the best pair of all searched and merged everywhere, until none is left."""

    def __init__(self, merges, ids):
        self.ranks, self.ids = {pair: rank for rank, pair in enumerate(merges)}, ids
        self.alphabet, self.cache = byte_alphabet(), {}

    def pieces(self, word: str) -> list[str]:
        if word in self.cache:
            return self.cache[word]
        symbols = list(word)
        while len(symbols) > 1:
            pairs = set(zip(symbols, symbols[1:], strict=False))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, float("inf")))
            if best not in self.ranks:
                break
            merged, at = [], 0
            while at < len(symbols):
                if tuple(symbols[at : at + 2]) == best:
                    merged.append(symbols[at] + symbols[at + 1])
                    at += 2
                else:
                    merged.append(symbols[at])
                    at += 1
            symbols = merged
        self.cache[word] = symbols
        return symbols

    def encode(self, text: str) -> list[int]:
        out = []
        for word in regex.findall(SPLIT_PATTERN, text):
            spelled = "".join(self.alphabet[byte] for byte in word.encode("utf-8"))
            out += [self.ids[piece] for piece in self.pieces(spelled)]
        return out


def contestants() -> dict:
    """Name -> a function that makes a tokenizer with nothing cached: ``text -> ids``."""
    merges = read_merges(VOCAB_PATH)
    ours = Encoder(merges)
    found = {
        "gpt2core": lambda: Encoder(merges).encode,
        "reference style": lambda: ReferenceStyle(merges, ours.encoder).encode,
    }
    if importlib.util.find_spec("tokenizers"):
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        def hugging_face():
            tokenizer = Tokenizer(models.BPE(vocab=ours.encoder, merges=merges))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            return lambda text: tokenizer.encode(text).ids

        found["tokenizers"] = hugging_face
    if importlib.util.find_spec("tiktoken"):
        import tiktoken

        ranks = {ours.token_bytes(i): i for i in range(ours.n_vocab) if i != ours.endoftext}

        def openai():
            encoding = tiktoken.Encoding(
                "gpt2",
                pat_str=SPLIT_PATTERN.pattern,
                mergeable_ranks=ranks,
                special_tokens={ENDOFTEXT: ours.endoftext},
            )
            return encoding.encode_ordinary

        found["tiktoken"] = openai
    return found


def race(rounds: int, text: str) -> list[dict]:
    """A row for each tokenizer: MB/s with a cold cache and a warm one."""
    makers = contestants()
    expected = makers["gpt2core"]()(text)
    short = text[:4000]
    rows = {name: {"name": name, "cold": [], "warm": [], "short": []} for name in makers}
    for name, make in makers.items():
        assert make()(text) == expected, f"{name} cuts the text differently"
    for _ in range(rounds):
        for name, make in makers.items():
            for kind, input in (("short", short), ("cold", text), ("warm", text)):
                if kind != "warm":
                    encode = make()
                gc.collect()
                start = time.perf_counter()
                encode(input)
                rows[name][kind].append(time.perf_counter() - start)
    megabytes = len(text.encode()) / 1e6
    return [
        {
            "name": row["name"],
            "cold_mb_per_s": megabytes / statistics.median(row["cold"]),
            "warm_mb_per_s": megabytes / statistics.median(row["warm"]),
            "prompt_of_4000_characters_ms": 1e3 * statistics.median(row["short"]),
        }
        for row in rows.values()
    ]
