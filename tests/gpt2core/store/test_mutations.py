"""A folder with one thing damaged loads right or is refused in one sentence.

``tools/check_mutations.py`` does the same to thousands of folders, and asks Hugging Face's
libraries for the right ids. Here, ids may only change where a setting that means ids did.
"""

from pathlib import Path

import numpy as np
import pytest

from gpt2core.errors import ModelFileError
from gpt2core.store.loader import load_model
from gpt2core.store.weights import tensors_from_params
from tests.helpers.folder_mutations import Good, mutate
from tests.helpers.tokenizer_folders import texts

N_MUTATIONS = 150
TEXTS = texts()[::8]
# Settings that say which ids a text has. Another value of these is another right tokenizer.
SETTINGS_OF_IDS = (
    "vocab", "encoder.json", "merges", "ignore_merges", "add_prefix_space", "add_bos_token",
    "bos_token", "post_processor", "added_tokens", "special_tokens", 'token":', "_token",
    "<|user|>", "<|bot|>", "für", "added_tokens_decoder", "merges.txt", "split_special_tokens",
)  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Good:
    return Good(tmp_path_factory.mktemp("good"))


def ids_of(model) -> list[list[int]]:
    return [model.encoder.encode(text, special) for special in (True, False) for text in TEXTS]


@pytest.mark.parametrize("seed", range(N_MUTATIONS))
def test_a_damaged_folder_loads_right_or_is_refused_in_one_sentence(seed, good, tmp_path):
    directory = Path(tmp_path / "damaged")
    mutation = mutate(good, directory, seed)
    try:
        model = load_model(str(directory))
    except ModelFileError as error:
        assert "\n" not in str(error) and str(error).endswith(".") and str(directory) in str(error)
        return
    original = load_model(str(good.folders[mutation.kind]))
    before = tensors_from_params(original.params)
    for name, array in tensors_from_params(model.params).items():
        n = min(len(array), len(before[name]))
        assert np.array_equal(array[:n], before[name][:n]), mutation
    means_ids = any(word in f"{mutation.file} {mutation.change}" for word in SETTINGS_OF_IDS)
    if not means_ids and mutation.change != "removed":
        assert ids_of(model) == ids_of(original), mutation
