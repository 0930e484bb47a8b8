"""Small tokenizer folders, one for each way in which such a folder can differ from GPT-2's.

``tools/make_tokenizer_goldens.py`` writes these folders and records the ids that Hugging
Face's libraries give for ``TEXTS``; the tests write the same folders and compare. Every
folder has GPT-2's first 3,000 merges, so ids stay small.

Invariant: a folder depends on its name only, so both sides see the same files.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.helpers.paths import GOLDEN, ROOT

N_MERGES = 3000
ENDOFTEXT = "<|endoftext|>"
VOCAB_BPE = ROOT / "gpt2core" / "tokenizer" / "vocab.bpe"
TOKENIZER_GOLDENS = GOLDEN / "tokenizer_folders.json"

Merges = list[tuple[str, str]]
Files = dict[str, Any]  # name -> an object to be written as JSON, or a string as it is


# --- the base vocabulary, without gpt2core: the tool's environments lack its requirements


@cache
def base_merges() -> tuple[tuple[str, str], ...]:
    """GPT-2's first merges."""
    lines = VOCAB_BPE.read_text(encoding="utf-8").split("\n")[1 : N_MERGES + 1]
    pairs = (line.split(" ") for line in lines)
    return tuple((left, right) for left, right in pairs)


def symbols() -> list[str]:
    """The 256 symbols of the byte alphabet in the order of their ids."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + i) for i in range(68)]


def vocabulary(merges: Merges) -> dict[str, int]:
    """Piece -> id: symbols, GPT-2's first pieces, ``<|endoftext|>``, then what ``merges`` add."""
    pieces = [*symbols(), *(a + b for a, b in base_merges()), ENDOFTEXT]
    pieces += [left + right for left, right in merges]
    return {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}


MERGES: Merges = list(base_merges())
VOCABULARY = vocabulary(MERGES)
N = len(VOCABULARY)  # the first id that an added token can have
END = VOCABULARY[ENDOFTEXT]


def extended_merges() -> Merges:
    """Merges for whole words at the end of the list, as further training on code adds them.

    BPE reaches few of these pieces: earlier merges take their letters first.
    """
    words = "return import lambda class yield owl owls wear capes house little words theory".split()
    known, added = set(VOCABULARY), []
    for word in [*words, *("Ġ" + word for word in words)]:
        cuts = [(word[:at], word[at:]) for at in range(1, len(word))]
        pair = next(((a, b) for a, b in cuts if a in known and b in known), None)
        if pair and word not in known:
            added.append(pair)
            known.add(word)
    return MERGES + added


def shuffled_merges() -> Merges:
    """The same merges with other ranks."""
    merges = list(MERGES)
    random.Random(11).shuffle(merges)
    return merges


# --- the files of a folder --------------------------------------------------------


def added(content: str, id: int, special: bool = False, **flags: bool) -> dict[str, Any]:
    """An entry of ``added_tokens`` in a ``tokenizer.json``."""
    defaults = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special}
    return {"id": id, "content": content, **defaults, "special": special, **flags}


BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
END_TOKEN = added(ENDOFTEXT, END, special=True)
TOKENIZER_CONFIG = {
    "tokenizer_class": "GPT2Tokenizer",
    "bos_token": ENDOFTEXT,
    "eos_token": ENDOFTEXT,
    "unk_token": ENDOFTEXT,
    "model_max_length": 64,
}
CONFIG = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": N,
    "n_positions": 64,
    "n_embd": 8,
    "n_head": 2,
    "n_layer": 1,
    "bos_token_id": END,
    "eos_token_id": END,
}


def tokenizer_json(
    merges: Merges | None = None,
    tokens: list[dict[str, Any]] | None = None,
    model: dict[str, Any] | None = None,
    **parts: Any,
) -> dict[str, Any]:
    """A ``tokenizer.json`` as transformers writes it, with other ``parts`` where named."""
    merges = MERGES if merges is None else merges
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [END_TOKEN, *(tokens or [])],
        "normalizer": None,
        "pre_tokenizer": BYTE_LEVEL,
        "post_processor": {**BYTE_LEVEL, "add_prefix_space": True, "trim_offsets": False},
        "decoder": {**BYTE_LEVEL, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary(merges),
            "merges": [list(pair) for pair in merges],
            **(model or {}),
        },
        **parts,
    }


def two_files(merges: Merges | None = None, vocab: dict[str, int] | None = None) -> Files:
    """``vocab.json`` and ``merges.txt``."""
    merges = MERGES if merges is None else merges
    lines = "\n".join(f"{left} {right}" for left, right in merges)
    return {
        "vocab.json": vocabulary(merges) if vocab is None else vocab,
        "merges.txt": f"#version: 0.2\n{lines}\n",
    }


def with_json(config: dict[str, Any] | None = None, **parts: Any) -> Files:
    """A folder as transformers 5 writes it."""
    return {
        "tokenizer.json": tokenizer_json(**parts),
        "tokenizer_config.json": TOKENIZER_CONFIG | (config or {}),
    }


def with_both(config: dict[str, Any] | None = None, **parts: Any) -> Files:
    """A folder as transformers 4 writes it: the two files beside ``tokenizer.json``."""
    return with_json(config, **parts) | two_files(parts.get("merges"))


def with_two(config: dict[str, Any] | None = None, **files: Any) -> Files:
    """A folder without ``tokenizer.json``; further files by their names without ``.json``."""
    more = {f"{name}.json": content for name, content in files.items()}
    return two_files() | {"tokenizer_config.json": TOKENIZER_CONFIG | (config or {})} | more


def with_two_and_rows(config: dict[str, Any] | None = None, **files: Any) -> Files:
    """As :func:`with_two`, with a row for each added token of ``GAPS``."""
    return with_two(config, **files) | ROWS_TO_THE_LAST_GAP


def decoder_table(*tokens: dict[str, Any]) -> dict[str, Any]:
    """``added_tokens_decoder`` of a ``tokenizer_config.json``."""
    return {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in [END_TOKEN, *tokens]
    }


def template(*pieces: str, special_tokens: dict[str, int] | None = None) -> dict[str, Any]:
    """A ``TemplateProcessing``; ``A`` among ``pieces`` is the text, others are tokens."""
    ids = {ENDOFTEXT: END} if special_tokens is None else special_tokens
    single = [
        {"Sequence": {"id": "A", "type_id": 0}}
        if piece == "A"
        else {"SpecialToken": {"id": piece, "type_id": 0}}
        for piece in pieces
    ]
    table = {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in ids.items()}
    pair = [{"Sequence": {"id": id, "type_id": 0}} for id in "AB"]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": table}


def cutters(*pre_tokenizers: dict[str, Any]) -> dict[str, Any]:
    """A sequence of pre-tokenizers."""
    return {"type": "Sequence", "pretokenizers": list(pre_tokenizers)}


# --- the folders ------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """One kind of folder.

    ``row`` is the failing input it stands for (CASES A1 to A13), ``source`` the reader
    whose ids are right: ``"tokenizers"`` for a ``tokenizer.json`` as it is,
    ``"fast"`` or ``"slow"`` for a tokenizer class of transformers 4. ``refused`` is a
    pattern in the sentence of the refusal, where ids depend on who reads the folder.
    """

    row: str
    source: str
    files: Callable[[], Files]
    refused: str | None = None

    def write(self, directory: Path) -> Path:
        """Write its files, and a ``config.json``, into ``directory``; returns it."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in ({"config.json": CONFIG} | self.files()).items():
            text = content if isinstance(content, str) else json.dumps(content)
            (directory / name).write_text(text, encoding="utf-8")
        return directory


USER, BOT = added("<|user|>", N, special=True), added("<|bot|>", N + 1)
FUR, WORDY = added("für", N + 2), added("owl", N + 3, single_word=True)
CHAT = [USER, BOT, FUR]
LEFT, RIGHT = added("<mask>", N, special=True, lstrip=True), added("<sep>", N + 1, rstrip=True)
BOTH_SIDES = added("[X]", N + 2, special=True, lstrip=True, rstrip=True)
NESTED = [added("<a>", N), added("<a><b>", N + 1, special=True), added("<b>", N + 2, special=True)]
GAPS = [added("<|user|>", N + 3, special=True), added("<|bot|>", N + 5)]
# The rows decide whether ids behind a gap are those of the weights.
ROWS_TO_THE_LAST_GAP = {"config.json": CONFIG | {"vocab_size": N + 6}}
PREFIX = {**BYTE_LEVEL, "add_prefix_space": True}
DIGITS = {"type": "Digits", "individual_digits": True}
PUNCTUATION = {"type": "Punctuation", "behavior": "Isolated"}
LOWER = {"type": "Lowercase"}
ROBERTA = {
    "type": "RobertaProcessing",
    "sep": [ENDOFTEXT, END],
    "cls": [ENDOFTEXT, END],
    "trim_offsets": True,
    "add_prefix_space": False,
}


def folder(row: str, source: str, files: Callable[..., Files], refused: str | None = None, **kw):
    return Folder(row, source, lambda: files(**kw), refused)


FOLDERS: dict[str, Folder] = {
    "plain_json": folder("A1", "tokenizers", with_json),
    "plain_both": folder("A1", "tokenizers", with_both),
    "plain_two": folder("A1", "fast", with_two),
    # A1: what is done before BPE
    "lowercase": folder("A1", "tokenizers", with_both, "normalizer.*Lowercase", normalizer=LOWER),
    "nfc": folder("A1", "tokenizers", with_json, "normalizer.*NFC", normalizer={"type": "NFC"}),
    "strip": folder(
        "A1", "tokenizers", with_json, "normalizer.*Strip",
        normalizer={"type": "Strip", "strip_left": True, "strip_right": True},
    ),
    "digits": folder(
        "A1", "tokenizers", with_both, "pre_tokenizer.*Digits",
        pre_tokenizer=cutters(DIGITS, BYTE_LEVEL),
    ),
    "punctuation": folder(
        "A1", "tokenizers", with_json, "pre_tokenizer.*Punctuation",
        pre_tokenizer=cutters(PUNCTUATION, BYTE_LEVEL),
    ),
    "no_regex": folder(
        "A1", "tokenizers", with_json, "use_regex",
        pre_tokenizer={**BYTE_LEVEL, "use_regex": False},
    ),
    "prefix_json": folder(
        "A1", "tokenizers", with_json, pre_tokenizer=PREFIX, config={"add_prefix_space": True}
    ),
    "prefix_json_alone": folder("A1", "tokenizers", with_both, pre_tokenizer=PREFIX),
    "prefix_two": folder("A1", "fast", with_two, config={"add_prefix_space": True}),
    "prefix_added": folder(
        "A1", "tokenizers", with_json, pre_tokenizer=PREFIX, tokens=CHAT,
        config={"add_prefix_space": True},
    ),
    "prefix_contradiction": folder(
        "A1", "tokenizers", with_json, "add_prefix_space", config={"add_prefix_space": True}
    ),
    "one_cutter": folder("A1", "tokenizers", with_json, pre_tokenizer=cutters(BYTE_LEVEL)),
    # A2: pieces that their merges do not lead to
    "extended": folder("A2", "tokenizers", with_json, merges=extended_merges()),
    "extended_two": Folder("A2", "fast", lambda: with_two() | two_files(extended_merges())),
    "shuffled": folder("A2", "tokenizers", with_both, merges=shuffled_merges()),
    # A4: added tokens from each of the three places, and their flags
    "added_json": folder("A4", "tokenizers", with_json, tokens=CHAT),
    "added_file": folder(
        "A4", "fast", with_two, added_tokens={"<|user|>": N, "<|bot|>": N + 1, "für": N + 2}
    ),
    "added_file_special": folder(
        "A4", "fast", with_two, added_tokens={"<|user|>": N, "<|bot|>": N + 1},
        special_tokens_map={"additional_special_tokens": ["<|user|>"], "eos_token": ENDOFTEXT},
    ),
    "added_config": folder(
        "A4", "fast", with_two, config={"added_tokens_decoder": decoder_table(*CHAT)}
    ),
    "added_config_and_json": folder(
        "A4", "tokenizers", with_json, tokens=CHAT,
        config={"added_tokens_decoder": decoder_table(*CHAT)},
    ),
    "strips": folder("A4", "tokenizers", with_json, tokens=[LEFT, RIGHT, BOTH_SIDES]),
    "strips_config": folder(
        "A4", "fast", with_two,
        config={"added_tokens_decoder": decoder_table(LEFT, RIGHT, BOTH_SIDES)},
    ),
    "single_word": folder("A4", "tokenizers", with_json, tokens=[*CHAT, WORDY]),
    "nested": folder("A4", "tokenizers", with_json, tokens=NESTED),
    "phases": folder(
        "A4", "tokenizers", with_json,
        tokens=[added("Hello there", N), added("there", N + 1, normalized=False)],
    ),
    "spaces": folder(
        "A4", "tokenizers", with_json, tokens=[added("  ", N), added(" Hello", N + 1)]
    ),
    "touching": folder(
        "A4", "tokenizers", with_json,
        tokens=[added("  ", N), RIGHT, added("<mask>", N + 2, lstrip=True)],
    ),
    # A5: a folder as DialoGPT's
    "dialogue": Folder("A5", "fast", two_files),
    "dialogue_config": folder("A5", "fast", with_two),
    "dialogue_both": folder("A5", "tokenizers", with_both),
    # A6: tokens put before a text
    "bos_template": folder("A6", "tokenizers", with_json, post_processor=template(ENDOFTEXT, "A")),
    "bos_config": folder("A6", "fast", with_two, config={"add_bos_token": True}),
    "bos_other": folder(
        "A6", "tokenizers", with_json, tokens=[USER], config={"bos_token": "<|user|>"},
        post_processor=template("<|user|>", "A", special_tokens={"<|user|>": N}),
    ),
    "bos_sequence": folder(
        "A6", "tokenizers", with_json,
        post_processor={
            "type": "Sequence", "processors": [BYTE_LEVEL, template(ENDOFTEXT, "A")]
        },
    ),
    "bos_two": folder(
        "A6", "tokenizers", with_json, tokens=[USER],
        post_processor=template(
            ENDOFTEXT, "<|user|>", "A", special_tokens={ENDOFTEXT: END, "<|user|>": N}
        ),
    ),
    "bos_none": folder("A6", "tokenizers", with_json, post_processor=template("A")),
    "bos_config_beside_json": folder("A6", "tokenizers", with_json, config={"add_bos_token": True}),
    "eos_template": folder(
        "A6", "tokenizers", with_json, "post_processor.*TemplateProcessing",
        post_processor=template("A", ENDOFTEXT),
    ),
    "roberta": folder(
        "A6", "tokenizers", with_json, "post_processor.*RobertaProcessing", post_processor=ROBERTA
    ),
    "eos_config": folder("A6", "fast", with_two, "add_eos_token", config={"add_eos_token": True}),
    # A12: options of the BPE model
    "ignore_merges": folder(
        "A12", "tokenizers", with_json, merges=extended_merges(), model={"ignore_merges": True}
    ),
    "ignore_merges_shuffled": folder(
        "A12", "tokenizers", with_json, merges=shuffled_merges(), model={"ignore_merges": True}
    ),
    "byte_fallback": folder("A12", "tokenizers", with_json, model={"byte_fallback": True}),
    "unk_token": folder(
        "A12", "tokenizers", with_json, model={"unk_token": ENDOFTEXT, "fuse_unk": True}
    ),
    "no_dropout": folder("A12", "tokenizers", with_json, model={"dropout": 0.0}),
    "dropout": folder("A12", "none", with_json, "dropout", model={"dropout": 0.5}),
    "suffix": folder(
        "A12", "tokenizers", with_json, "end_of_word_suffix", model={"end_of_word_suffix": "</w>"}
    ),
    "prefix": folder(
        "A12", "none", with_json, "continuing_subword_prefix",
        model={"continuing_subword_prefix": "##"},
    ),
    # A13: what works elsewhere
    "pad_config": folder("A13", "fast", with_two, config={"pad_token": "[PAD]"}),
    "pad_json": folder(
        "A13", "tokenizers", with_json, tokens=[added("[PAD]", N, special=True)],
        config={"pad_token": "[PAD]"},
    ),
    "pad_unnumbered": folder("A13", "fast", with_json, config={"pad_token": "[PAD]"}),
    "pads_config": folder(
        "A13", "fast", with_two,
        config={
            "mask_token": "<mask>", "sep_token": "<sep>", "pad_token": "[PAD]",
            "additional_special_tokens": ["<|user|>", "[X]"],
        },
    ),
    "pad_piece": folder("A13", "fast", with_two, config={"pad_token": "re"}),
    "pad_flags": folder(
        "A13", "fast", with_two,
        config={"pad_token": {"content": "[PAD]", "lstrip": True, "__type": "AddedToken"}},
    ),
    "gap_config": folder(
        "A13", "slow", with_two_and_rows,
        config={"added_tokens_decoder": decoder_table(*GAPS)},
    ),
    "gap_file": folder(
        "A13", "slow", with_two_and_rows, added_tokens={"<|user|>": N + 3, "<|bot|>": N + 5}
    ),
    "gap_json": Folder("A13", "none", lambda: with_json(tokens=GAPS) | ROWS_TO_THE_LAST_GAP),
}  # fmt: skip


# --- the texts --------------------------------------------------------------------


def texts() -> list[str]:
    """200 short texts: half of them plain, half with what some folder gives a token to."""
    lines = (GOLDEN / "bpe_goldens.jsonl").read_text(encoding="utf-8").splitlines()
    plain = [text for line in lines if 0 < len(text := json.loads(line)["text"]) <= 60]
    pieces = [
        ENDOFTEXT, "<|user|>", "<|bot|>", "für", "owl", "owls", "<mask>", "<sep>", "[X]", "[PAD]",
        "<a>", "<b>", "Hello there", "there", "  ", " ", "\n", "\t ", " Hello", "Not all", "re",
        " return", "lambda", "import owl", "12", "é", "🦉", "_", "'s", "Hi",
    ]  # fmt: skip
    draw = random.Random(7)
    mixed = ["".join(draw.choices(pieces, k=draw.randint(2, 6))) for _ in range(104)]
    first = ["Not", "abc", "the 3 owls", "Hi there<|endoftext|>", "<|user|>Hello<|bot|>", "für"]
    return list(dict.fromkeys([*first, *plain[:104], *mixed]))[:200]
