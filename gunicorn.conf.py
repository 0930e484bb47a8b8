"""How gunicorn serves the page: `gunicorn "webapp:create_app()"` reads this file by itself.

PORT and WEB_CONCURRENCY are the variables that hosting platforms set. A stream holds a
thread until its last token, so workers are threaded; no thread waits for a slow client.
"""

import os
import resource
import signal

from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from gpt2core.engine import processors
from gpt2core.settings import SettingError, Settings, parse_int
from webapp import metric_files, request_log
from webapp.limits import check_rate_settings
from webapp.memory import return_large_arrays

# A platform that sets PORT connects from outside; without it, only this machine can.
bind = f"0.0.0.0:{os.environ['PORT']}" if os.environ.get("PORT") else "127.0.0.1:8000"
worker_class = "webapp.worker.BufferingWorker"
# Connections of one worker. Beyond them the one that has waited longest for its client is closed.
worker_connections = 2000
sendfile = False  # it would wait for the client
# One process decodes the texts of all its clients together; more processes split the cores.
try:
    workers = parse_int("WEB_CONCURRENCY", os.environ.get("WEB_CONCURRENCY") or "1")
    settings = Settings.from_environment()
    check_rate_settings(settings)
except SettingError as error:
    raise SystemExit(str(error)) from None
threads = settings.server_threads
# A permalink holds the whole prompt; this is the largest limit that gunicorn accepts.
limit_request_line = 8190
# Seconds that running streams have to finish when the server is stopped.
graceful_timeout = 30
# Seconds without a heartbeat before a worker is replaced. Its threads send streams, so a
# long stream does not count.
timeout = 60
# Forwarded headers are believed by GPT2_TRUSTED_PROXIES only, not by the peer's address.
forwarded_allow_ips = os.environ.get("FORWARDED_ALLOW_IPS", "")
# gunicorn's remote control is not used, and two servers would share its socket.
control_socket_disable = True


def on_starting(server):
    """Divide the processors among the workers, however their number was set.

    Make the folder in which they count.
    """
    if settings.metrics:
        if server.cfg.preload_app:  # it would be loaded before there is a folder
            raise SystemExit("GPT2_METRICS is on, so the app cannot be preloaded.")
        metric_files.make_folder()
    # Every connection is an open file, and the usual limit is 1,024.
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < 4096 <= most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, most))
    processors.share_processors(server.cfg.workers)


def post_worker_init(worker):
    """Load the model before the first request; end streams before gunicorn cuts them."""
    return_large_arrays()
    serve_below(worker, os.environ.pop("SCRIPT_NAME", "").rstrip("/"))
    request_log.hide_requests_of_gunicorn()
    if settings.request_log:
        request_log.switch_on()
    model_server = worker.app.callable.extensions["model_server"]
    model_server.start()
    stop = signal.getsignal(signal.SIGTERM)

    def stop_gracefully(number, frame):
        # A little earlier than gunicorn cuts connections, so that clients get the reason.
        model_server.drain(0.9 * graceful_timeout)
        stop(number, frame)

    signal.signal(signal.SIGTERM, stop_gracefully)


def child_exit(server, worker):
    """A worker has ended: it runs and waits for nothing any more."""
    if settings.metrics:
        metric_files.forget(worker.pid)


def on_exit(server):
    """The server ends."""
    if settings.metrics:
        metric_files.remove_folder()


def serve_below(worker, prefix):
    """Answer below ``prefix`` only, and 404 elsewhere, where gunicorn itself would answer 500."""
    if prefix:
        worker.wsgi = DispatcherMiddleware(NotFound(), {prefix: worker.wsgi})
