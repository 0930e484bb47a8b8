"""A generation as something to paste: a curl line, a command line, a Python program.

Pure functions from the fields of the form to text; ``parts/snippets.html`` shows what they give.
Each says the same request, seed included, so each gives the same text again. Invariants:
what is copied runs as it is, whatever the prompt holds (quotes, line ends, NUL, a first
word that looks like an option); no character that a screen or a clipboard would change
is in it, so unseen ones are escaped.
"""

import json
import shlex
from collections.abc import Mapping

from gpt2core.tokenizer.decoding import replace_surrogates

MAX_LINK = 8_000  # characters of an address that servers (see gunicorn.conf.py) still take


def as_curl(form: Mapping, url: str) -> str:
    """A request to this very server (``url`` is its /generate), answered as JSON."""
    body = {"prompt": form["prompt"], "n_tokens": int(form["n_tokens"]), **sampling(form)}
    if form.get("kept"):
        body["kept"] = kept_ids(form)
    return " \\\n  ".join(
        [
            f"curl -sS {shlex.quote(url)}",
            "-H 'Accept: application/json'",
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(json_text(body))}",
        ]
    )


def as_command(form: Mapping, model: str) -> str | None:
    """The command line, for a POSIX shell; None where tokens are kept, which it cannot say."""
    if form.get("kept"):
        return None
    chosen = " ".join(f"--{name} {value}" for name, value in sampling(form).items())
    command = (
        f"python -m gpt2core --n_tokens_to_generate {form['n_tokens']} \\\n"
        f"  {chosen} \\\n  --model_size {shlex.quote(model)}"
    )
    prompt = form["prompt"]
    if prompt != "-" and all(char.isprintable() or char == "\n" for char in prompt):
        # After -- nothing is an option any more, whatever it begins with.
        return f"{command} \\\n  {'-- ' if prompt.startswith('-') else ''}{shlex.quote(prompt)}"
    # Of standard input the last line end is dropped, so the prompt gets one to lose.
    line_end = "\\r\\n" if prompt.endswith("\r") else "\\n"
    return f"printf '{printf_text(prompt)}{line_end}' |\n  {command}"


def as_python(form: Mapping, model: str) -> str:
    """A program over the package's public names."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in sampling(form).items())
    kept, new = "", "ids"
    if form.get("kept"):
        kept = f"kept = {kept_ids(form)}  # tokens that were there before\n"
        new = "ids + kept"
    written = "kept + new" if kept else "new"
    return f"""\
from gpt2core import SamplingParams, load_model, stream

model = load_model({model!r})
sampling = SamplingParams({arguments})
ids = model.encoder.encode({form["prompt"]!r})
{kept}tokens = stream(model.engine(), {new}, {form["n_tokens"]}, sampling, model.encoder.endoftext)
new = [token.id for token in tokens if token.finish_reason != "endoftext"]
print(model.encoder.decode({written}))
"""


def sampling(form: Mapping) -> dict[str, int | float]:
    """The fields that say how tokens are chosen, as numbers."""
    kinds = {"temperature": float, "top_k": int, "top_p": float, "seed": int}
    return {name: kind(form[name]) for name, kind in kinds.items()}


def kept_ids(form: Mapping) -> list[int]:
    return [int(id) for id in form["kept"].split(",")]


def json_text(value) -> str:
    """JSON in which every character can be seen."""
    return "".join(
        char if char.isprintable() else json.dumps(char)[1:-1]
        for char in json.dumps(value, ensure_ascii=False)
    )


def printf_text(text: str) -> str:
    """``text`` as a format of printf(1), to stand between single quotes."""
    escaped = {"\\": r"\\", "%": "%%", "'": r"\047", "\n": r"\n"}
    signs = []
    for char in replace_surrogates(text):
        # A format that begins with - would be taken for an option.
        if char.isprintable() and not (char == "-" and not signs):
            signs.append(escaped.get(char, char))
        else:
            signs.append(escaped.get(char) or "".join(f"\\{b:03o}" for b in char.encode()))
    return "".join(signs)
