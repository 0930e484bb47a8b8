"""A Ray cluster of two nodes on this machine, and Ray Serve on it, by its own commands."""

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.web import Server, environment, free_port, wait_until

START_SECONDS = 300  # a cluster takes half a minute on two idle processors
# On a busy machine a start takes longer than Ray waits, and its own processes yield to others.
BUSY = {"RAY_DASHBOARD_STARTUP_TIMEOUT_S": START_SECONDS, "RAY_worker_niceness": "0"}
COMMANDS = Path(sys.executable).parent
NODE = [
    *("--block", "--num-cpus", "2", "--object-store-memory", str(80 * 2**20)),
    *("--disable-usage-stats", "--include-log-monitor", "false"),
    *("--min-worker-port", "0", "--max-worker-port", "0"),
]


class RayCluster:
    """Two raylets with a proxy each; both proxies listen on ``port``."""

    def __init__(self, folder: Path, head: subprocess.Popen, dashboard: int, metrics: list[int]):
        self.head, self.port, self.metrics = head, free_port(), metrics
        self._folder, self._dashboard = folder, f"http://127.0.0.1:{dashboard}"

    def deploy(self, config: dict) -> None:
        """Bring the applications into the state of ``config``, with ``serve deploy``."""
        path = self._folder / "serve.json"  # JSON is YAML
        options = {"host": "127.0.0.1", "port": self.port}
        path.write_text(json.dumps({**config, "http_options": options}))
        command = [COMMANDS / "serve", "deploy", path, "--address", self._dashboard]
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr

    def wait_until_running(self) -> None:
        """Wait until every application has its replicas, and both proxies know them."""

        def running() -> bool:
            serve = self.serve()
            states = {one["status"] for one in serve["applications"].values()}
            assert "DEPLOY_FAILED" not in states, serve["applications"]
            proxies = [one["status"] for one in serve["proxies"].values()]
            healthy = states == {"RUNNING"} and proxies == ["HEALTHY", "HEALTHY"]
            # A healthy proxy may not know the applications yet; each surely answers once.
            return healthy and all(self.routes() == set(serve["applications"]) for _ in range(20))

        self.wait_until(running, "every application running")

    def wait_until(self, condition, what: str) -> None:
        """Wait for what Serve says of itself, which costs it processor time."""
        wait_until(condition, what, START_SECONDS, interval=0.5)

    def wait_for_replicas(self, application: str, n: int, but: Iterable[int] = ()) -> None:
        """Wait until ``n`` replicas run, those of the processes ``but`` not counted."""

        def there() -> bool:
            return len(set(self.replicas(application)) - set(but)) == n

        self.wait_until(there, f"{n} replicas of {application}")

    def serve(self) -> dict:
        """What Serve says of itself: applications, replicas, proxies."""
        with urllib.request.urlopen(f"{self._dashboard}/api/serve/applications/") as answer:
            return json.load(answer)

    def routes(self) -> set[str]:
        """The applications that one of the proxies knows."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/routes") as answer:
                return set(json.load(answer).values())
        except OSError:  # also a 503 of a proxy that knows none
            return set()

    def replicas(self, application: str) -> dict[int, str]:
        """The process of each running replica, and its node."""
        deployments = self.serve()["applications"][application]["deployments"].values()
        found = [one for deployment in deployments for one in deployment["replicas"]]
        return {one["pid"]: one["node_id"] for one in found if one["state"] == "RUNNING"}

    def at(self, prefix: str = "") -> Server:
        """The application below ``prefix``, through Serve's proxies."""
        return Server(self.head, self.port, self._folder / "head.log", prefix)


@contextmanager
def ray_cluster(**settings):
    """A :class:`RayCluster` whose processes have these environment variables; it ends."""
    pytest.importorskip("ray", reason="Ray is missing: pip install -r requirements-ray.txt")
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # its sockets need a short path
    address, dashboard, metrics = free_port(), free_port(), [free_port(), free_port()]
    # Otherwise the proxies believe forwarded headers of peers on this machine.
    settings = {"PYTHONPATH": ROOT, "FORWARDED_ALLOW_IPS": "", **BUSY, **settings}
    head = [
        *("--head", "--port", str(address), "--temp-dir", str(folder / "ray")),
        *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        *("--ray-client-server-port", str(free_port())),
    ]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        first = stack.enter_context(node(folder / "head.log", metrics[0], head, settings))
        cluster = RayCluster(folder, first, dashboard, metrics)
        wait_until(lambda: answers(cluster), "a head node", START_SECONDS)
        second = ["--address", f"127.0.0.1:{address}"]
        stack.enter_context(node(folder / "second.log", metrics[1], second, settings))
        yield cluster


@contextmanager
def node(log: Path, metrics: int, arguments: list[str], settings: dict):
    """One node: `ray start --block` and the processes it starts."""
    ports = ["--metrics-export-port", str(metrics)]
    ports += ["--dashboard-agent-listen-port", str(free_port())]
    command = [str(COMMANDS / "ray"), "start", *NODE, *ports, *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(**settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        # All processes of a node are in its session. SIGTERM would first drain the node.
        subprocess.run(["pkill", "-KILL", "--session", str(process.pid)])
        process.wait()


def answers(cluster: RayCluster) -> bool:
    assert cluster.head.poll() is None, cluster.at().log
    try:
        return bool(cluster.serve())
    except OSError:
        return False
