"""How often one client may start work: ``GPT2_RATE_LIMIT``, counted in ``GPT2_RATE_STORAGE``.

Checked before a route is called. How many texts a client may have at once is the model server's
own limit. Invariant: a storage that cannot be reached refuses nobody; each process then counts by
itself, and the log has one line.
"""

import math
import time
from typing import cast

from flask import Flask, current_app
from flask_limiter import Limiter, RateLimitExceeded
from limits import parse_many
from limits.errors import ConfigurationError
from limits.storage import storage_from_string

from gpt2core.engine.events import ClientLimit
from gpt2core.settings import SettingError, Settings, variable_name
from webapp.request import client_name, starts_work

# Seconds. A storage that does not answer is given up, so that no request waits long for it.
REDIS_TIMEOUTS: dict[str, str | int] = {"socket_timeout": 1, "socket_connect_timeout": 1}


def limit_rate(app: Flask, settings: Settings) -> None:
    """Refuse work that a client starts more often than the settings allow.

    Raises SettingError for settings that cannot be used.
    """
    if not settings.rate_limit:
        return
    check_rate_settings(settings)
    limiter = Limiter(
        client_name,
        application_limits=[settings.rate_limit],
        storage_uri=settings.rate_storage,
        storage_options=storage_options(settings),
        in_memory_fallback_enabled=True,
    )
    limiter.logger.handlers.clear()  # its own one drops every message
    limiter.request_filter(lambda: not starts_work())
    limiter.init_app(app)
    app.extensions["rate_limiter"] = limiter


def check_rate_settings(settings: Settings) -> None:
    """Raise SettingError unless limit and storage can be used. Connects to nothing."""
    try:
        parse_many(settings.rate_limit or "1 per second")
    except ValueError:
        raise SettingError(
            f"{variable_name('rate_limit')} is {settings.rate_limit!r}; it must be as "
            "'60 per minute' or '10 per second; 500 per hour'."
        ) from None
    try:
        storage_from_string(settings.rate_storage, **storage_options(settings))
    except (ConfigurationError, ValueError):
        raise SettingError(
            f"{variable_name('rate_storage')} is {settings.rate_storage!r}; it must be memory:// "
            "or the address of a Redis, as redis://localhost:6379."
        ) from None


def storage_options(settings: Settings) -> dict[str, str | int]:
    """Arguments of the storage's client; only a Redis has any."""
    return REDIS_TIMEOUTS if settings.rate_storage.startswith("redis") else {}


def client_limit(error: RateLimitExceeded) -> ClientLimit:
    """The refusal of a client that asks too often, with the seconds until it may ask again."""
    limiter = cast(Limiter, current_app.extensions["rate_limiter"])
    reset_at = limiter.current_limit.reset_at if limiter.current_limit else time.time()
    seconds = max(1, math.ceil(reset_at - time.time()))  # reset_at is the next whole second
    return ClientLimit(
        f"This server takes {error.limit.limit} from one client; try again in {seconds} s.",
        seconds,
        "rate_limit",
    )
