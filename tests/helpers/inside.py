"""What tests of the inside views share: texts of any length, pages, numbers read back."""

from urllib.parse import urlencode

from gpt2core.inside.recording import Recording, record_pass
from gpt2core.store.loader import Model
from tests.helpers.web import Element, parse

TEXT = "The cat sat on the mat because it"
REPEATED = "Once upon a time, there was a little girl. Once upon a time, there was a little"
STORY = (
    "Once upon a time, there was a little girl. She sat on the mat with her cat. " * 20
).strip()
SIZES = (1, 2, 24, 25, 64, 65, 256)  # tokens; the borders of what is drawn how
ODD_TEXTS = (
    "a\N{ROBOT FACE}b \N{ROBOT FACE}",
    "日本語を話す",
    "one\x00two",
    "<|endoftext|>",
    "é\N{COMBINING ACUTE ACCENT}\r\n\t",
)
MAX_BYTES = 300_000  # of a page


def address(path: str, **fields) -> str:
    """A path with its fields; ``for_`` spells the field ``for``."""
    return f"{path}?{urlencode({name.rstrip('_'): value for name, value in fields.items()})}"


def text_of(model: Model, n_tokens: int) -> str:
    """A text of exactly ``n_tokens``."""
    text = model.encoder.decode(model.encoder.encode(STORY)[:n_tokens])
    assert len(model.encoder.encode(text)) == n_tokens
    return text


def open_page(client, path: str, **fields) -> Element:
    """The parsed page at this address, which must answer 200."""
    response = client.get(address(path, **fields))
    assert response.status_code == 200, response.get_data(as_text=True)[:2000]
    return parse(response.get_data(as_text=True))


def recorded(model: Model, text: str) -> Recording:
    """The pass that a page about ``text`` shows, recorded anew."""
    return record_pass(model.encoder.encode(text), model.params, model.hparams.n_head)


def number_in(text: str) -> float:
    """A number as a page spells it: U+2212 for a minus, commas between thousands."""
    return float(text.replace("\u2212", "-").replace(",", "").strip())


def numbers_in(elements: list[Element]) -> list[float]:
    return [number_in(element.text) for element in elements]


def body_rows(table: Element) -> list[list[str]]:
    """The cells' words of each row of a table's body."""
    (body,) = table.all("tbody")
    return [[cell.words for cell in row if cell.tag in ("th", "td")] for row in body.all("tr")]
