"""What proxies in front of the server say of a request: client, scheme, host, prefix.

The outermost part of the app. Invariants: a forwarded header counts only as far as
``GPT2_TRUSTED_PROXIES`` says, because everybody can send one; a prefix that is no plain path
is ignored.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX_HEADER = "HTTP_X_FORWARDED_PREFIX"
# A second slash at the beginning would make addresses of another host.
PREFIX = re.compile(r"(/[\w.~-]+)+/?", re.ASCII)


def trust_proxies(app: Flask, n: int) -> None:
    """Let ``app`` take client, scheme, host and prefix from the ``n`` nearest proxies."""
    if n:
        fixed = ProxyFix(app.wsgi_app, x_for=n, x_proto=n, x_host=n, x_prefix=n)
        app.wsgi_app = PlainPrefix(fixed)  # type: ignore[method-assign]


class PlainPrefix:
    """WSGI middleware that removes a forwarded prefix that is no plain path."""

    def __init__(self, app: "WSGIApplication"):
        self._app = app

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        values = environ.get(PREFIX_HEADER, "").split(",")
        if not all(PREFIX.fullmatch(value.strip()) for value in values):
            environ.pop(PREFIX_HEADER, None)
        return self._app(environ, start_response)
