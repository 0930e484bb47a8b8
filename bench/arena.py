"""Starts peers, each in a process of its own, and hands them the same work in turns.

A slow minute of the machine then meets all of them, and medians and ratios stay true.
"""

import importlib.util
import os
import statistics
import sys
import traceback
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from bench.peers import PEERS, process_environment


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
    needs = PEERS[name].needs
    return needs is None or importlib.util.find_spec(needs) is not None


class Arena:
    """Peers ready to run on one model. A context manager: its processes end with it."""

    def __init__(self, names: list[str], directory: Path, threads: int, n_slots: int):
        self.pipes, self.processes = {}, []
        context, before = get_context("spawn"), dict(os.environ)
        for name in names:
            here, there = context.Pipe()
            process = context.Process(
                target=live, args=(name, directory, threads, n_slots, there), daemon=True
            )
            os.environ.clear()
            os.environ.update(process_environment(name, threads))
            try:
                process.start()
            finally:
                os.environ.clear()
                os.environ.update(before)
            self.processes.append(process)
            answer = here.recv()
            if answer == "ready":
                self.pipes[name] = here
            else:
                print(f"{name} cannot run:\n{answer}", file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pipe in self.pipes.values():
            pipe.send(None)
        for process in self.processes:
            process.join(10)

    def call(self, name: str, prompts, n_tokens):
        """One run of one peer: ``(ids, seconds to first, seconds for the rest)``."""
        self.pipes[name].send((prompts, n_tokens))
        answer = self.pipes[name].recv()
        if isinstance(answer, str):
            raise RuntimeError(f"{name} failed:\n{answer}")
        return answer

    def agreement(self, prompts, n_tokens) -> dict[str, float]:
        """Of each peer's greedy texts, the share that is the first peer's, id for id."""
        texts = {name: self.call(name, prompts, n_tokens)[0] for name in self.pipes}
        expected = next(iter(texts.values()))
        return {
            name: sum(a == b for a, b in zip(made, expected, strict=True)) / len(expected)
            for name, made in texts.items()
            if made is not None  # the bound writes nothing
        }

    def drop(self, name: str) -> None:
        """Send a peer home."""
        self.pipes.pop(name).send(None)

    def race(self, prompts, n_tokens, rounds: int) -> dict[str, Result]:
        """``rounds`` runs of each, in turns, after one that does not count."""
        results = {name: Result() for name in self.pipes}
        for round in range(rounds + 1):
            for name, result in results.items():
                _, first, rest = self.call(name, prompts, n_tokens)
                if round:
                    result.first.append(first)
                    result.rest.append(rest)
        return results


def live(name: str, directory: Path, threads: int, n_slots: int, pipe) -> None:
    """A peer's process: load, then run whatever comes."""
    try:
        from gpt2core import blas

        blas.configure()  # sets only what the peer's environment left open
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
