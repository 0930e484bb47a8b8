"""What all instruments promise: one answer per address, a switch, a link from a generation."""

import pytest

from gpt2core.settings import Settings
from tests.helpers.inside import TEXT, address, number_in, open_page, recorded
from tests.helpers.web import JSON, parse
from webapp import create_app
from webapp.inside.recordings import Recordings

OTHER = "The dog sat on the mat because it"
ADDRESSES = (
    address("/inside/heads", prompt=TEXT, cell="1.2", measure="norm", show="moves"),
    address("/inside/lens", prompt=TEXT, half=1),
    address("/inside/lens/rows", prompt=TEXT),
    address("/inside/attribution", prompt=TEXT, part="1.attn.0", against=262),
    address("/inside/sampling", prompt=TEXT, seed=4),
    address("/inside/neurons", prompt=TEXT, layer=1, neuron=7),
    address("/inside/neighbours", prompt=TEXT, id=262),
    address("/inside/ablate", prompt=TEXT, parts="2.mlp,3.1", n_tokens=6),
    address("/inside/patch", prompt=TEXT, other=OTHER, carry="3.2"),
    address("/inside/patch/rows", prompt=TEXT, other=OTHER),
    address("/inside/reading", prompt=TEXT),
    address("/inside/ablate/texts", prompt=TEXT, parts="3.1", n_tokens=6),
    address("/inside/heads.csv", prompt=TEXT),
    address("/inside/lens.csv", prompt=TEXT),
    address("/inside/lens/ranks.csv", prompt=TEXT),
    address("/inside/attribution.csv", prompt=TEXT, part="1.mlp"),
    address("/inside/sampling.csv", prompt=TEXT),
)
NAMES = ["heads", "lens", "attribution", "sampling", "neurons", "neighbours", "ablate", "patch"]
NAMES += ["reading"]
each_address = pytest.mark.parametrize("path", ADDRESSES)


@each_address
def test_an_address_has_one_answer_with_a_cold_and_a_warm_cache(app, client, path, monkeypatch):
    monkeypatch.setitem(app.extensions, "recordings", Recordings())
    cold = client.get(path).data
    assert cold and cold == client.get(path).data


@each_address
def test_an_address_has_one_answer_in_every_process(client, server, path):
    with server.request("GET", path) as response:
        assert response.read() == client.get(path).data


@each_address
def test_prompt_and_kept_tokens_are_the_same_tokens_as_a_prompt(client, demo, path):
    kept = ",".join(map(str, demo.encoder.encode(TEXT)))
    same = client.get(path.replace(address("", prompt=TEXT)[1:], f"kept={kept}"))
    assert same.data == client.get(path).data


@each_address
def test_where_the_inside_views_are_off_there_is_nothing(path):
    assert create_app(Settings(inside=False)).test_client().get(path).status_code == 404


def test_a_generated_token_is_explained_by_the_text_before_it(client, demo):
    """The rule of the link from a chip: prompt, the ids before the token, and its own id."""
    fields = {"prompt": TEXT, "seed": 3, "temperature": 1.2}
    answer = client.post("/generate", json=fields | {"n_tokens": 4}, headers=JSON).json
    ids = [token["id"] for token in answer["tokens"]]
    for i, id in enumerate(ids):
        before = {"kept": ",".join(map(str, ids[:i]))} if i else {}
        page = open_page(client, "/inside/attribution", prompt=TEXT, for_=id, **before)
        assert (
            page.all("p", "inside-lead")[0].all(class_="piece")[0].text
            == (demo.encoder.decoder[id])
        )
        text = TEXT + demo.encoder.decode(ids[:i])
        assert demo.encoder.encode(text) == demo.encoder.encode(TEXT) + ids[:i]
        (equation,) = page.all("p", "inside-equation")
        shown = number_in(equation.all("b", "number")[0].text)
        assert shown == pytest.approx(recorded(demo, text).last_logits[id], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_every_view_leads_to_every_instrument(client, name):
    for path in ("/inside", "/inside/9", f"/inside/{name}"):
        page = open_page(client, path, prompt=TEXT, at=3)
        (links,) = page.all("ul", "inside-instruments")
        hrefs = [link.attributes["href"] for link in links.all("a")]
        assert address(f"/inside/{name}", prompt=TEXT, at=3) in hrefs


@pytest.mark.parametrize("name", NAMES)
def test_one_fixed_sentence_says_what_the_instrument_does_not_say(client, name):
    pages = [open_page(client, f"/inside/{name}", prompt=text) for text in (TEXT, "Hello")]
    sentences = {page.all("p", "inside-caveat")[0].words for page in pages}
    assert len(sentences) == 1 and len(sentences.pop()) > 40


@each_address
def test_a_text_that_is_too_long_is_refused_with_both_numbers(client, path):
    long = client.get(path.replace(address("", prompt=TEXT)[1:], "prompt=" + "a+" * 300))
    assert long.status_code == 422
    message = parse(long.text).id("inside-error").words
    assert "301 tokens long" in message
    assert "256 at most" in message
