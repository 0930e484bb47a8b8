"""Send hostile requests to the app: ``python -m tools.fuzz_requests 200000``.

Prints each case that is answered wrongly, with its seed, and every thousand cases the memory of
the process. The exit status is 1 if there was any.
"""

import argparse
import os
import sys

from gpt2core.settings import Settings
from tests.helpers.hostile import case, problem, send
from tests.helpers.processes import resources
from webapp import create_app


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("n", type=int, help="number of cases")
    arguments.add_argument("--first", type=int, default=0, help="the first seed")
    options = arguments.parse_args()
    app = create_app(Settings())
    model_server = app.extensions["model_server"]
    model_server.start()
    model_server.wait_until_loaded(timeout=60)
    client, n_wrong = app.test_client(), 0
    for n, seed in enumerate(range(options.first, options.first + options.n), start=1):
        with send(client, case(seed)) as answer:
            found = problem(answer)
        if found:
            n_wrong += 1
            print(f"seed {seed}: {found}: {case(seed)}", flush=True)
        if n % 1000 == 0:
            print(
                f"{n} cases, {n_wrong} wrong, {resources(os.getpid()).resident_mb:.0f} MB resident",
                flush=True,
            )
    model_server.stop()
    return int(n_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
