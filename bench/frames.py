"""How smooth the page is while a thousand tokens stream in: ``python -m bench.frames``.

Streams ``--tokens`` tokens at ``--rate`` a second from the real app with a paced model
(``tests.helpers.paced``) into a real Chromium, and reads from the browser's trace how long the
tasks of the page's main thread took. A task over 50 ms is a dropped frame that people see;
the target is none.
"""

import argparse
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from gpt2core.hparams import HParams
from tests.browser.conftest import ARGUMENTS, HOW_TO_GET_ONE, find_browser
from tests.helpers.web import ROBOT, serving, write_small_model

PROMPT = f"Echo: the cat sat on a mat {ROBOT} and"
TASKS = ("RunTask", "ThreadControllerImpl::RunTask")
LIMIT = 50  # ms


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.frames", description=__doc__)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=80, help="tokens a second")
    parser.add_argument("--width", type=int, default=1400)
    arguments = parser.parse_args()
    if not find_browser():
        parser.error(HOW_TO_GET_ONE)
    with tempfile.TemporaryDirectory() as folder, paced_server(Path(folder), arguments) as server:
        events, progress = traced(server, arguments)
    report(events, progress)


@contextmanager
def paced_server(folder: Path, arguments):
    """The page with a small random model whose context holds the tokens."""
    hparams = HParams(n_ctx=arguments.tokens + 50, n_embd=12, n_head=2, n_layer=1)
    write_small_model(folder / "long", hparams)
    settings = {"GPT2_MODEL": "long", "GPT2_MODELS_DIR": folder, "TEST_PACE": 1 / arguments.rate}
    with serving(folder / "log", app="tests.helpers.paced:create_app()", **settings) as server:
        yield server


def traced(server, arguments) -> tuple[list[dict], str]:
    """The browser's trace of one generation, and the page's progress line."""
    events, ended = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": arguments.width, "height": 900})
        page.goto(server.url)
        page.locator("#prompt").fill(PROMPT)
        page.locator("#n_tokens").fill(str(arguments.tokens))
        expect(page.locator("#next tbody tr")).to_have_count(10, timeout=60_000)
        page.wait_for_timeout(1000)
        cdp = page.context.new_cdp_session(page)
        cdp.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
        cdp.on("Tracing.tracingComplete", lambda _: ended.append(True))
        cdp.send(
            "Tracing.start",
            {"categories": "devtools.timeline,toplevel", "transferMode": "ReportEvents"},
        )
        page.locator("#generate").click()
        page.locator("#status [data-finish-reason]").wait_for(timeout=600_000)
        progress = page.locator("#progress").inner_text()
        cdp.send("Tracing.end")
        while not ended:
            page.wait_for_timeout(100)
        browser.close()
    return events, progress


def report(events: list[dict], progress: str) -> None:
    whole = [event for event in events if event.get("ph") == "X"]
    # The page's main thread is the one that lays pages out.
    threads = Counter((e["pid"], e["tid"]) for e in whole if e["name"] == "UpdateLayoutTree")
    ((main_thread, _),) = threads.most_common(1)
    mine = [e for e in whole if (e["pid"], e["tid"]) == main_thread]
    tasks = sorted((e["dur"] / 1000 for e in mine if e["name"] in TASKS), reverse=True)
    print(f"page: {progress}")
    print(f"tasks of the main thread: {len(tasks)}, together {sum(tasks):.0f} ms")
    print(f"longest, ms: {', '.join(f'{task:.0f}' for task in tasks[:10])}")
    print(f"over {LIMIT} ms: {sum(task > LIMIT for task in tasks)}")
    # The times above include waiting for a busy processor; these do not.
    computing = sorted(
        (round(e.get("tdur", 0) / 1000) for e in mine if e["name"] in TASKS), reverse=True
    )
    totals, cpu = Counter(), sum(e.get("tdur", 0) for e in mine if e["name"] in TASKS) / 1000
    for event in mine:
        totals[event["name"]] += event.get("tdur", 0) / 1000
    print(f"processor time in tasks: {cpu:.0f} ms; longest: {', '.join(map(str, computing[:10]))}")
    kinds = ", ".join(f"{name} {ms:.0f}" for name, ms in totals.most_common(12))
    print(f"by kind, processor ms: {kinds}")
    slow = [e for e in mine if e["name"] in TASKS and e["dur"] > 1000 * LIMIT]
    for task in slow:
        share = task.get("tdur", 0) / 1000
        print(f"  a task of {task['dur'] / 1000:.0f} ms, {share:.0f} of them computing:")
        inside = [
            e
            for e in mine
            if task["ts"] <= e["ts"]
            and e["ts"] + e["dur"] <= task["ts"] + task["dur"]
            and e["name"] not in TASKS
            and e["dur"] > 2000
        ]
        print("   ", ", ".join(f"{e['name']} {e['dur'] / 1000:.0f}" for e in inside[:8]))


if __name__ == "__main__":
    main()
