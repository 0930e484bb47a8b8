"""How gunicorn serves the page: `gunicorn "webapp:create_app()"` reads this by itself.

PORT and WEB_CONCURRENCY are respected, as hosting platforms set them. A stream holds a
thread for as long as tokens come, so workers are threaded (gthread) and have plenty.
"""

import os
import signal

from gpt2core.engine import blas
from gpt2core.settings import SettingError, positive
from webapp.config import Settings

# A platform that sets PORT wants to reach it from outside; at home nobody else should.
bind = f"0.0.0.0:{os.environ['PORT']}" if os.environ.get("PORT") else "127.0.0.1:8000"
worker_class = "gthread"
# One process decodes all its readers' texts together; more processes split the cores.
try:
    workers = positive("WEB_CONCURRENCY", os.environ.get("WEB_CONCURRENCY") or "1")
    settings = Settings.from_environment()
    blas.n_threads()  # a bad number must stop the start, too
except SettingError as error:
    raise SystemExit(str(error)) from None
# A thread for everybody who reads or waits, and some for pages and health checks.
threads = settings.max_batch + settings.max_queue + 24
# A permalink holds the whole prompt; this is the longest that gunicorn can bound.
limit_request_line = 8190
# Streams in flight get this long to finish when the server is told to stop.
graceful_timeout = 30
# A worker is only replaced when it stops answering at all, however long its streams are.
timeout = 60
# Nothing here needs gunicorn's remote control, and two servers would share its socket.
control_socket_disable = True


def on_starting(server):
    """Divide the processors among the workers, however their number was set."""
    blas.share_processors(server.cfg.workers)


def post_worker_init(worker):
    """Load the model before the first visitor asks for it; end streams before the grace ends."""
    scheduler = worker.app.callable.extensions["scheduler"]
    scheduler.start()
    stop = signal.getsignal(signal.SIGTERM)

    def stop_gracefully(number, frame):
        # A little earlier than gunicorn cuts connections, so that readers are told why.
        scheduler.drain(0.9 * graceful_timeout)
        stop(number, frame)

    signal.signal(signal.SIGTERM, stop_gracefully)
