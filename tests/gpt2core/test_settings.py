"""Settings: each is documented, each can be set, an invalid value is a sentence."""

import ast
import re
from dataclasses import fields
from typing import Literal, get_args, get_origin

import pytest

from gpt2core.settings import SettingError, Settings, variable_name
from tests.helpers.paths import ROOT

NAMES = [field.name for field in fields(Settings)]
SWITCHES = [field.name for field in fields(Settings) if field.type is bool]
CHOICES = [field.name for field in fields(Settings) if get_origin(field.type) is Literal]
NUMBERS = [
    field.name
    for field in fields(Settings)
    if field.type not in (str, bool) and field.name not in CHOICES
]
# Their defaults are put in words in the README.
IN_WORDS = {"base_url", "threads", "kernel_cache", "api_key", "max_per_client", "rate_limit"}

each_setting = pytest.mark.parametrize("name", NAMES)


def readme_table() -> dict[str, str]:
    """Variable -> default, from the rows of the README's table of settings."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(GPT2_\w+)` \| (.*?) \|", readme, re.MULTILINE))


def test_the_readme_lists_exactly_the_settings_with_their_defaults():
    table = readme_table()
    assert sorted(table) == sorted(variable_name(name) for name in NAMES)
    for name in set(NAMES) - IN_WORDS:
        default = getattr(Settings(), name)
        shown = {True: "on", False: "off"}[default] if name in SWITCHES else default
        assert table[variable_name(name)] == f"`{shown}`"


def variables_named(source: str) -> set[str]:
    """The string literals of ``source`` that are the name of one of our variables."""
    literals = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in literals if re.fullmatch(r"GPT2_[A-Z_]+", text)}


def test_no_other_module_reads_a_variable_by_its_name():
    assert variables_named('os.environ.get("GPT2_MODEL")') == {"GPT2_MODEL"}
    paths = [
        *ROOT.glob("gpt2core/**/*.py"),
        *ROOT.glob("webapp/**/*.py"),
        ROOT / "gunicorn.conf.py",
    ]
    assert len(paths) > 30
    found = {path.name: variables_named(path.read_text(encoding="utf-8")) for path in paths}
    assert {name: names for name, names in found.items() if names} == {}


def test_an_empty_environment_gives_the_defaults():
    assert Settings.from_environment(environment={}) == Settings()
    assert Settings().model == "demo"


def test_empty_variables_count_as_unset():
    empty = {variable_name(name): "" for name in NAMES}
    assert Settings.from_environment(environment=empty) == Settings()


@each_setting
def test_each_setting_is_read_from_its_variable(name):
    text, value = ("7", 7) if name in NUMBERS else ("seven", "seven")
    if name in SWITCHES:
        text, value = "off", False
    if name in CHOICES:
        text = value = get_args(Settings.__annotations__[name])[-1]
    settings = Settings.from_environment(environment={f"GPT2_{name.upper()}": text})
    assert getattr(settings, name) == value


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", ["1", "yes", "ON", " off"])
def test_an_invalid_switch_is_a_sentence_that_names_the_variable(name, value):
    with pytest.raises(SettingError) as caught:
        Settings.from_environment(environment={f"GPT2_{name.upper()}": value})
    assert str(caught.value) == f"GPT2_{name.upper()} is {value!r}; it must be on or off."


@pytest.mark.parametrize("name", CHOICES)
def test_an_invalid_choice_is_a_sentence_that_names_the_variable_and_the_choices(name):
    with pytest.raises(SettingError) as caught:
        Settings.from_environment(environment={f"GPT2_{name.upper()}": "float16"})
    assert str(caught.value) == f"GPT2_{name.upper()} is 'float16'; it must be float32 or int8."


def test_only_the_fields_asked_for_are_read():
    environment = {"GPT2_MODEL": "mine", "GPT2_MODELS_DIR": "there", "GPT2_MAX_BATCH": "many"}
    settings = Settings.from_environment("models_dir", environment=environment)
    assert settings == Settings(models_dir="there")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["-1", "many", "1.5", "1e3", "²", " "])
def test_an_invalid_number_is_a_sentence_that_names_the_variable(name, value):
    with pytest.raises(SettingError) as caught:
        Settings.from_environment(environment={f"GPT2_{name.upper()}": value})
    sentence = str(caught.value)
    assert f"GPT2_{name.upper()}" in sentence and repr(value) in sentence
    smallest = 0 if getattr(Settings(), name) == 0 else 1
    assert f"at least {smallest}" in sentence


@pytest.mark.parametrize("name", NUMBERS)
def test_only_what_can_be_absent_may_be_zero(name):
    environment = {variable_name(name): "0"}
    if getattr(Settings(), name) == 0:
        assert getattr(Settings.from_environment(environment=environment), name) == 0
    else:
        with pytest.raises(SettingError, match="at least 1"):
            Settings.from_environment(environment=environment)
