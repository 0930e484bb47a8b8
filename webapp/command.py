"""The ``glyph`` command of an installed package: ``glyph serve``, and all of the core's commands.

``glyph serve`` runs the page under gunicorn with the packaged configuration, so that an
installed wheel serves it from any folder. Everything else is ``python -m gpt2core``.
"""

import os
import sys

from gpt2core import cli
from webapp import create_app
from webapp.assets import asset

USAGE = """\
usage: glyph serve [GUNICORN OPTIONS]
       glyph [COMMAND] …

`glyph serve` serves the page on http://127.0.0.1:8000, or on $PORT; options go to gunicorn.
Every other command is that of `python -m gpt2core`; `glyph generate --help` lists them.
"""


def main() -> int:
    """Run one command; returns the exit status."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        return serve(arguments[1:])
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    return cli.main(arguments)


def serve(options: list[str]) -> int:
    """Serve the page until stopped. Does not return where gunicorn runs."""
    if sys.platform == "win32":  # gunicorn needs fork
        port = int(os.environ.get("PORT") or 8000)
        create_app().run("127.0.0.1", port, threaded=True)
        return 0
    config = ["--config", str(asset("gunicorn.conf.py"))]
    command = [sys.executable, "-m", "gunicorn", *config, *options, "webapp:create_app()"]
    sys.stdout.flush()
    os.execv(sys.executable, command)
