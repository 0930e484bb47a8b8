"""Every kind of tokenizer folder gives Hugging Face's ids, or is refused by name.

``golden/tokenizer_folders.json`` holds the ids of 200 texts under each folder;
``tools/make_tokenizer_goldens.py`` asked Hugging Face's libraries for them.
"""

import json

import pytest

from gpt2core.errors import ModelFileError
from gpt2core.tokenizer.explain import explain_encoding
from gpt2core.tokenizer.folder import read_tokenizer
from tests.helpers.tokenizer_folders import FOLDERS, TOKENIZER_GOLDENS, texts

GOLDENS = json.loads(TOKENIZER_GOLDENS.read_text(encoding="utf-8"))
READ = [name for name, folder in FOLDERS.items() if folder.refused is None]
REFUSED = [name for name, folder in FOLDERS.items() if folder.refused is not None]
COMPARED = [name for name in READ if GOLDENS["folders"][name]["source"]]


def expected(name: str, switch: str) -> list[list[int]]:
    """The ids of all texts under one folder."""
    ids = list(GOLDENS["plain"])
    for index, other in GOLDENS["folders"][name][switch].items():
        ids[int(index)] = other
    return ids


def test_the_goldens_are_of_these_texts_and_folders():
    assert GOLDENS["texts"] == texts() and len(texts()) == 200
    assert GOLDENS["folders"].keys() == FOLDERS.keys()


@pytest.mark.parametrize("name", COMPARED)
def test_a_folder_gives_hugging_faces_ids(name, tmp_path):
    encoder = read_tokenizer(FOLDERS[name].write(tmp_path)).encoder
    for switch, special_tokens in (("on", True), ("off", False)):
        if switch in GOLDENS["folders"][name]:
            ids = expected(name, switch)
            assert [encoder.encode(text, special_tokens) for text in texts()] == ids


@pytest.mark.parametrize("name", READ)
def test_spans_and_explanations_agree_with_the_ids(name, tmp_path):
    encoder = read_tokenizer(FOLDERS[name].write(tmp_path)).encoder
    for text in texts():
        for special_tokens in (True, False):
            ids = encoder.encode(text, special_tokens)
            tokens = encoder.tokens(text, special_tokens)
            explained = explain_encoding(encoder, text, special_tokens=special_tokens)
            assert [token.id for token in tokens] == ids
            assert [one for pre_token in explained for one in pre_token.ids] == ids
            for pre_token in explained:
                assert text[pre_token.start :].startswith(pre_token.text.removeprefix(" ")) or (
                    text[pre_token.start :].startswith(pre_token.text)
                )
            for token in tokens:
                touched = text[token.start : token.end].encode()
                data = encoder.token_bytes(token.id)
                # A token stands for its characters, less white space that belongs to it, or
                # for some of the bytes of its characters, or for the space before a text.
                assert data.strip() in touched or not touched


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_whose_ids_depend_on_who_reads_it_is_refused_by_name(name, tmp_path):
    with pytest.raises(ModelFileError, match=FOLDERS[name].refused) as caught:
        read_tokenizer(FOLDERS[name].write(tmp_path))
    assert str(tmp_path) in str(caught.value) and str(caught.value).endswith(".")
