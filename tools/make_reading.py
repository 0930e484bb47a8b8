"""Search a model for the four findings of the guided reading, and write them into its folder.

The page ``/inside/reading`` shows them. Run it again when the bundled model has other weights;
it takes seconds::

    python -m tools.make_reading            # gpt2core/demo/reading.json
    python -m tools.make_reading 124M       # models/124M/reading.json

A folder without the file needs none: a server then searches when the page is opened first.
"""

import argparse

from gpt2core.inside.findings import Reading
from gpt2core.inside.reading import TEXTS
from gpt2core.store.loader import DEMO_NAME, Model, load_model
from gpt2core.store.reading import search_model, write_reading


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", default=DEMO_NAME)
    parser.add_argument("--models_dir", default="models", help="where models are kept")
    args = parser.parse_args()
    model = load_model(args.model, args.models_dir)
    reading = search_model(model)
    print("\n".join(lines(reading, model)))
    print(f"written: {write_reading(model, reading)}")


def lines(reading: Reading, model: Model) -> list[str]:
    """A line for each finding, and whether it is one."""
    previous, copying, settling, removal = (
        reading.previous,
        reading.copying,
        reading.settling,
        reading.removal,
    )
    piece = model.encoder.decoder.__getitem__
    found = {
        "previous token": (
            previous.found,
            f"head {previous.layer}.{previous.head}, {previous.habit.n_most} of "
            f"{previous.habit.n} tokens, mean weight {previous.habit.mean:.3f}",
        ),
        "copies": (
            copying.found,
            f"head {copying.layer}.{copying.head}, {copying.habit.n_most} of {copying.habit.n} "
            f"tokens, mean weight {copying.habit.mean:.3f}; probability of the phrase "
            f"{copying.first:.3f}, then {copying.second:.3f}",
        ),
        "settles in the middle": (
            settling.found,
            f"{piece(settling.token)} after {settling.n_layers} of {model.hparams.n_layer} "
            f"layers: {TEXTS[settling.text]}",
        ),
        "removal": (
            removal.found,
            f"head {removal.layer}.{removal.head}, {piece(removal.token)} {removal.before:.3f} "
            f"-> {removal.after:.3f}, then {piece(removal.instead)}: {TEXTS[removal.text]}",
        ),
    }
    return [f"{name}: {'yes' if yes else 'no'}, {what}" for name, (yes, what) in found.items()]


if __name__ == "__main__":
    main()
