"""A generation as something to paste: a curl line, a command line, a Python program.

Pure functions from the fields of the form to text, which ``parts/snippets.html`` prints. Each
spells the same request, seed included, so each gives the same text again. Invariants: a
snippet runs as it is copied, whatever the prompt holds (quotes, line ends, NUL, a first
word that looks like an option); characters that a screen or a clipboard would change are
escaped.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from gpt2core.tokenizer.decoding import replace_surrogates
from webapp.forms import parse_stop

Fields = Mapping[str, Any]  # of the form, by name, as GenerationView.fields has them


def as_curl(fields: Fields, url: str) -> str:
    """A request to this very server (``url`` is its /generate), answered as JSON."""
    body = {"prompt": fields["prompt"], "n_tokens": int(fields["n_tokens"]), **sampling(fields)}
    if fields.get("kept"):
        body["kept"] = kept_ids(fields)
    if fields.get("stop"):
        body["stop"] = list(parse_stop(fields))
    if "special_tokens" in fields:
        body["special_tokens"] = bool(int(fields["special_tokens"]))
    return " \\\n  ".join(
        [
            f"curl -sS {shlex.quote(url)}",
            "-H 'Accept: application/json'",
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(visible_json(body))}",
        ]
    )


def as_command(fields: Fields, model: str) -> str | None:
    """The command line, for a POSIX shell; None if it cannot be said there.

    There is no option for kept tokens, and no way to type control characters in a stop string.
    """
    stops = parse_stop(fields)
    if fields.get("kept") or not all(char in "\n" or char.isprintable() for char in "".join(stops)):
        return None
    options = " ".join(f"--{name} {value}" for name, value in sampling(fields).items())
    if "special_tokens" in fields:
        options += f" --{'' if int(fields['special_tokens']) else 'no-'}special_tokens"
    for stop in stops:
        options += f" --stop={shlex.quote(stop)}"
    command = (
        f"python -m gpt2core --n_tokens_to_generate {fields['n_tokens']} \\\n"
        f"  {options} \\\n  --model_size {shlex.quote(model)}"
    )
    prompt = fields["prompt"]
    if prompt != "-" and all(char.isprintable() or char == "\n" for char in prompt):
        # After -- no argument is an option, whatever it begins with.
        return f"{command} \\\n  {'-- ' if prompt.startswith('-') else ''}{shlex.quote(prompt)}"
    # The command drops one line end at the end of standard input, so one is added.
    line_end = "\\r\\n" if prompt.endswith("\r") else "\\n"
    return f"printf '{printf_format(prompt)}{line_end}' |\n  {command}"


def as_python(fields: Fields, model: str) -> str:
    """A program over the package's public names."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in sampling(fields).items())
    kept, new = "", "ids"
    if fields.get("kept"):
        kept = f"kept = {kept_ids(fields)}  # tokens that were there before\n"
        new = "ids + kept"
    written = "kept + new" if kept else "new"
    imports = "from gpt2core import SamplingParams, load_model, stream\n"
    ending = f"""\
new = [token.id for token in tokens if token.finish_reason != "endoftext"]
print(model.encoder.decode({written}))
"""
    if stops := list(parse_stop(fields)):
        imports += "from gpt2core.continuation import Continuation\n"
        ending = f"""\
text = Continuation(model.encoder, "", [], {"kept" if kept else "[]"}, stop={stops!r})
for token in tokens:
    text.add(token)
    if text.finish_reason:
        break
print("".join(step.text for step in text.steps))
"""
    prompt, n_tokens = repr(fields["prompt"]), fields["n_tokens"]
    if "special_tokens" in fields:
        prompt += f", special_tokens={bool(int(fields['special_tokens']))}"
    return f"""\
{imports}
model = load_model({model!r})
sampling = SamplingParams({arguments})
ids = model.encoder.encode({prompt})
{kept}tokens = stream(model.engine(), {new}, {n_tokens}, sampling, model.encoder.rules.end_ids)
{ending}"""


def sampling(fields: Fields) -> dict[str, int | float]:
    """The fields that control sampling, as numbers."""
    kinds = {"temperature": float, "top_k": int, "top_p": float, "seed": int}
    return {name: kind(fields[name]) for name, kind in kinds.items()}


def kept_ids(fields: Fields) -> list[int]:
    """The field ``kept`` as ids."""
    return [int(part) for part in fields["kept"].split(",")]


def visible_json(value: object) -> str:
    """JSON in which every character is visible."""
    return "".join(
        char if char.isprintable() else json.dumps(char)[1:-1]
        for char in json.dumps(value, ensure_ascii=False)
    )


def printf_format(text: str) -> str:
    """``text`` as a format of printf(1), to stand between single quotes."""
    escapes = {"\\": r"\\", "%": "%%", "'": r"\047", "\n": r"\n"}
    escaped: list[str] = []
    for char in replace_surrogates(text):
        # printf would take a format that begins with - for an option.
        if char.isprintable() and not (char == "-" and not escaped):
            escaped.append(escapes.get(char, char))
        else:
            escaped.append(escapes.get(char) or "".join(f"\\{b:03o}" for b in char.encode()))
    return "".join(escaped)
