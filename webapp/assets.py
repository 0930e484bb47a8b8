"""Where the page's files lie: templates, static files, gunicorn's configuration.

In a checkout they are top-level, where readers look for them. A wheel has them inside
this package, since an installed package owns no other folder.
"""

from pathlib import Path

PACKAGE = Path(__file__).parent


def asset(name: str) -> Path:
    """The path of ``templates``, ``static`` or ``gunicorn.conf.py``."""
    installed = PACKAGE / name
    return installed if installed.exists() else PACKAGE.parent / name
