"""A process of its own with a pipe to it, as peers and workers are.

Invariant: who waits for an answer gets it or hears that the process has ended. So the
child alone holds its end of the pipe.
"""

from multiprocessing import get_context

KILLED = -9  # the exit code after SIGKILL, which the signal module of Windows lacks


class ProcessEnded(RuntimeError):
    """A process ended, by itself or killed, where an answer was due."""


class Child:
    """``target(*args, pipe)`` in a fresh interpreter. To send it None is to send it home."""

    def __init__(self, name: str, target, *args):
        context = get_context("spawn")
        self.name = name
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=target, args=(*args, there), daemon=True)
        self.process.start()
        there.close()  # a copy left open here would keep receive() waiting for a dead process

    def send(self, task) -> None:
        """Hand it something. Raises ProcessEnded."""
        try:
            self.pipe.send(task)
        except OSError:  # nobody holds the other end
            raise self._ended() from None

    def receive(self):
        """Wait for what it says. Raises ProcessEnded."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):  # OSError: it died in the middle of its answer
            raise self._ended() from None

    def dismiss(self) -> None:
        """Send it home, unless it has gone, and wait a while until it has."""
        try:
            self.send(None)
        except ProcessEnded:
            return
        self.process.join(10)

    def _ended(self) -> ProcessEnded:
        self.process.join(10)
        code = self.process.exitcode
        how = f"killed by signal {-code}" if code and code < 0 else f"exit code {code}"
        hint = " A system out of memory does that: name fewer peers." if code == KILLED else ""
        return ProcessEnded(f"{self.name}'s process ended without an answer ({how}).{hint}")
