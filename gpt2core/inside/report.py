"""The JSON document as text for a terminal: logit lens, attribution, one attention row.

A pure function of the result of :func:`gpt2core.inside.document.document`. Pieces are spelled
in the byte alphabet, whose symbols are printable and one column wide.
"""

from gpt2core.inside.document import JsonObject

BAR_WIDTH = 30  # columns of an attention weight of 1


def report(document: JsonObject) -> str:
    """Four tables, separated by empty lines."""
    return "\n\n".join([answer(document), lens(document), attribution(document), row(document)])


def ablation_report(document: JsonObject) -> str:
    """One table: candidates before and after an ablation."""
    token, target = document["tokens"][document["at"] - 1], document["for"]
    rows = [
        [
            row["piece"],
            *(f"{row[when]['logit']:.4f}" for when in ("before", "after")),
            *(percent(row[when]["probability"]) for when in ("before", "after")),
        ]
        for row in document["candidates"]
    ]
    parts, before, after = ", ".join(document["ablated"]), target["before"], target["after"]
    lines = [
        f"Without {parts} (set to {document['to']}), after token {document['at']}, "
        f"{token['piece']}: logit of {target['piece']} {before['logit']:.4f} -> "
        f"{after['logit']:.4f}, rank {before['rank']:,} -> {after['rank']:,}.",
        f"{document['n_changed']:,} of {document['n_vocab']:,} logits changed.",
    ]
    head = ["token", "logit", "without", "probability", "without"]
    return table("\n".join(lines), "<>>>>", head, rows)


def answer(document: JsonObject) -> str:
    token = document["tokens"][document["at"] - 1]
    rows = [
        [top["piece"], str(top["id"]), f"{top['logit']:.4f}", percent(top["probability"])]
        for top in document["top"]
    ]
    title = f"Likeliest after token {document['at']}, {token['piece']}"
    return table(title, "<>>>", ["token", "id", "logit", "probability"], rows)


def lens(document: JsonObject) -> str:
    target = target_piece(document)
    rows = []
    for entry in document["lens"]:
        first = entry["top"][0]
        is_answer = entry["layer"] == document["n_layer"]
        rows.append(
            [
                "the answer" if is_answer else f"before layer {entry['layer']}",
                first["piece"],
                percent(first["probability"]),
                f"{entry['rank']:,}",
                percent(entry["probability"]),
            ]
        )
    title = "Logit lens: the final norm and unembedding, applied to earlier states"
    return table(title, "<<>>>", ["state", "likeliest", "", f"rank of {target}", ""], rows)


def attribution(document: JsonObject) -> str:
    found = document["attribution"]
    rows = [[part["part"], f"{part['value']:+.4f}"] for part in found["parts"]]
    rows.append(["sum", f"{sum(part['value'] for part in found['parts']):+.4f}"])
    title = f"Direct logit attribution of {target_piece(document)}, logit {found['logit']:.4f}"
    return table(title, "<>", ["part", "share"], rows)


def row(document: JsonObject) -> str:
    attention, at = document["attention"], document["at"]
    rows = []
    for token, weight in zip(document["tokens"][:at], attention["rows"][at - 1], strict=True):
        bar = "#" * round(BAR_WIDTH * weight)
        rows.append([f"{token['index']} {token['piece']}", f"{weight:.4f}", bar])
    piece = document["tokens"][at - 1]["piece"]
    title = f"Attention of {piece}, layer {attention['layer']}, head {attention['head']}"
    return table(title, "<><", ["token", "weight", ""], rows)


def target_piece(document: JsonObject) -> str:
    """The spelling of the token whose logit is explained."""
    return str(document["attribution"]["piece"])


def percent(probability: float) -> str:
    return f"{100 * probability:.2f} %"


def table(title: str, align: str, head: list[str], rows: list[list[str]]) -> str:
    """A title, a line of column names and the rows; ``align`` has ``<`` or ``>`` a column."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(line, align, widths, strict=True)
        )
        for line in lines
    ]
    return "\n".join([title, *(f"  {line}".rstrip() for line in shown)])
