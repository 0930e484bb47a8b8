"""Starts peers, each in a process of its own, and hands them the same work in turns.

A slow minute of the machine then meets all of them, and medians and ratios stay true.
"""

import importlib.util
import os
import statistics
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import shapes
from bench.child import Child, ProcessEnded
from bench.peers import PEERS, process_environment

SAME_TEXTS = 0.75  # of the texts must be equal before a peer is timed


@dataclass
class Result:
    """What one peer did in all rounds of one task; seconds."""

    first: list[float] = field(default_factory=list)
    rest: list[float] = field(default_factory=list)

    def median_first(self) -> float:
        return statistics.median(self.first)

    def median_rest(self) -> float:
        return statistics.median(self.rest)


def installed(name: str) -> bool:
    """Whether a peer can run here."""
    return all(importlib.util.find_spec(module) for module in PEERS[name].needs)


@contextmanager
def environment(variables: dict[str, str]):
    """This process's environment, which a child inherits, is ``variables`` for a while."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Arena:
    """Peers ready to run on one model. A context manager: its processes end with it.

    One that cannot start is told on stderr and left out.
    """

    def __init__(self, names: list[str], directory: Path, threads: int, n_slots: int):
        self.peers: dict[str, Child] = {}
        for name in names:
            with environment(process_environment(name, threads)):
                child = Child(name, live, name, directory, threads, n_slots)
            try:
                answer = child.receive()
            except ProcessEnded as ended:
                answer = ended
            if answer == "ready":
                self.peers[name] = child
            else:
                print(f"{name} cannot run:\n{answer}", file=sys.stderr)
                child.dismiss()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.peers.values():
            child.dismiss()

    def call(self, name: str, prompts, n_tokens):
        """One run of one peer: ``(ids, seconds to first, seconds for the rest)``.

        Raises ProcessEnded if its process has died, RuntimeError if it failed otherwise.
        """
        self.peers[name].send((prompts, n_tokens))
        answer = self.peers[name].receive()
        if isinstance(answer, str):
            raise RuntimeError(f"{name} failed:\n{answer}")
        return answer

    def agreement(self, prompts, n_tokens) -> dict[str, float]:
        """Of each peer's greedy texts, the share that is the first peer's, id for id."""
        texts = {name: self.call(name, prompts, n_tokens)[0] for name in self.peers}
        expected = next(iter(texts.values()))
        return {
            name: sum(a == b for a, b in zip(made, expected, strict=True)) / len(expected)
            for name, made in texts.items()
            if made is not None  # the bound writes nothing
        }

    def drop(self, name: str) -> None:
        """Send a peer home."""
        self.peers.pop(name).dismiss()

    def race(self, prompts, n_tokens, rounds: int) -> dict[str, Result]:
        """``rounds`` runs of each, in turns, after one that does not count."""
        results = {name: Result() for name in self.peers}
        for round in range(rounds + 1):
            for name, result in results.items():
                _, first, rest = self.call(name, prompts, n_tokens)
                if round:
                    result.first.append(first)
                    result.rest.append(rest)
        return results


def open_arena(
    names: list[str], directory: Path, threads: int, n_slots: int, compare: bool = True
) -> Arena:
    """Those of ``names`` that can run here on the model in ``directory``; gpt2core is the first.

    ``compare`` leaves out the peers with float32 weights that write other texts than gpt2core.
    ``n_slots`` is at least 8. Exits for an unknown name, and if gpt2core cannot run.
    """
    for name in names:
        if name not in PEERS:
            sys.exit(f"bench: there is no peer {name!r}; there are {', '.join(PEERS)}.")
    missing = [name for name in names if not installed(name)]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
    opened = Arena([name for name in names if name not in missing], directory, threads, n_slots)
    if "gpt2core" not in opened.peers:
        sys.exit("bench: gpt2core itself cannot run here, so there is nothing to compare.")
    texts = shapes.random_prompts(shapes.read_hparams(directory), 8, 24)
    for name, share in opened.agreement(texts, 6).items():
        print(f"{name}: {share:.0%} of 8 texts as ours", file=sys.stderr)
        if share < SAME_TEXTS and PEERS[name].exact and compare:
            opened.drop(name)
    return opened


def live(name: str, directory: Path, threads: int, n_slots: int, pipe) -> None:
    """A peer's process: load, then run whatever comes."""
    try:
        from gpt2core.engine import processors

        processors.configure()  # sets only what the peer's environment left open
        peer = PEERS[name](directory, threads, n_slots)
    except Exception:
        pipe.send(traceback.format_exc())
        return
    pipe.send("ready")
    while (task := pipe.recv()) is not None:
        try:
            pipe.send(peer.run(*task))
        except Exception:
            pipe.send(traceback.format_exc())
