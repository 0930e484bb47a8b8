"""``python -m gpt2core``: runs the command line of :mod:`gpt2core.cli`."""

import sys

from gpt2core.cli import main

sys.exit(main(sys.argv[1:]))
