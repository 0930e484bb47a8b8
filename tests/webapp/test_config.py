"""Settings: each is documented, each can be set, bad values stop with a sentence."""

from dataclasses import fields

import pytest

from gpt2core.settings import SettingError
from tests.helpers.web import ROOT
from webapp.config import Settings

NUMBERS = [field.name for field in fields(Settings) if field.type is int]


def test_every_setting_stands_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [f.name for f in fields(Settings) if f"GPT2_{f.name.upper()}" not in readme]
    assert not missing


def test_an_empty_environment_gives_the_defaults():
    assert Settings.from_environment({}) == Settings()
    assert Settings().model == "demo"


def test_empty_variables_count_as_unset():
    empty = {f"GPT2_{field.name.upper()}": "" for field in fields(Settings)}
    assert Settings.from_environment(empty) == Settings()


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_each_setting_is_read_from_its_variable(name):
    value = 7 if name in NUMBERS else "seven"
    settings = Settings.from_environment({f"GPT2_{name.upper()}": str(value)})
    assert getattr(settings, name) == value


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "1e3", "²", " "])
def test_a_bad_number_stops_with_a_sentence_that_names_the_variable(name, value):
    with pytest.raises(SettingError) as stopped:
        Settings.from_environment({f"GPT2_{name.upper()}": value})
    sentence = str(stopped.value)
    assert f"GPT2_{name.upper()}" in sentence and repr(value) in sentence
    assert "at least 1" in sentence
