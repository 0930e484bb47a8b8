"""Fields of JSON: unknown names say which one was meant, wrong types are refused."""

import pytest

from tests.helpers.web import HEROES, HTMX, JSON
from webapp.forms import DEFAULTS
from webapp.schemas import GenerateBody


@pytest.mark.parametrize("path", ["/generate", "/tokenize", "/next", "/append"])
@pytest.mark.parametrize("name", ["max_tokens", "n_predict", "stream", "tempreature", "", "x" * 99])
def test_an_unknown_field_is_refused_by_name(client, path, name):
    answer = client.post(path, json={"prompt": "x", name: 3}, headers=JSON)
    assert answer.status_code == 422
    error = answer.json["error"]
    assert error["field"] == name
    assert name[:40] in error["message"] and len(error["message"]) < 250


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_tokens", "max_tokens: here it is n_tokens, or use /v1/completions."),
        ("n_predict", "here it is n_tokens"),
        ("text", "here it is prompt"),
        ("stream", "only /v1/completions has it"),
        ("tempreature", "Do you mean temperature?"),
        ("something", "The fields are prompt, special_tokens, temperature, "),
    ],
)
def test_the_message_names_the_field_that_was_meant(client, name, meant):
    answer = client.post("/generate", json={"prompt": "x", name: 3}, headers=JSON)
    assert meant in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", 5), ("prompt", None), ("special_tokens", [1]), ("n_tokens", 1.5),
        ("n_tokens", True), ("temperature", {}), ("top_k", [4]), ("top_p", False),
        ("seed", {"a": 1}), ("kept", [1.5]), ("kept", {"5": 1}), ("stop", 5), ("stop", [5]),
        ("stop", [""]), ("stop", ["a"] * 5), ("stop", [["a"]]), ("stop", ["a" * 501]),
    ],
)  # fmt: skip
def test_a_value_of_a_wrong_type_is_refused_for_its_field(client, name, value):
    answer = client.post("/generate", json={"prompt": HEROES, name: value}, headers=JSON)
    assert answer.status_code == 422
    assert answer.json["error"]["field"] == name
    assert not answer.json["error"]["message"].startswith("Value error")


@pytest.mark.parametrize(
    ("stop", "words"), [(["a"] * 5, "at most 4"), ([""], "empty"), (["a" * 501], "501 characters")]
)
def test_a_limit_of_stop_strings_is_named(client, stop, words):
    answer = client.post("/generate", json={"prompt": HEROES, "stop": stop}, headers=JSON)
    assert words in answer.json["error"]["message"]


def test_the_schema_has_the_fields_of_the_form_and_their_defaults():
    fields = GenerateBody.model_fields
    assert set(DEFAULTS) | {"regenerate"} == set(fields)
    for name in ("n_tokens", "temperature", "top_k", "top_p"):
        assert fields[name].default == float(DEFAULTS[name])


def test_a_form_may_have_fields_of_its_own(client):
    fields = {"prompt": HEROES, "n_tokens": "1", "view": "id", "pace": "full"}
    assert client.post("/generate", data=fields, headers=HTMX).status_code == 200
