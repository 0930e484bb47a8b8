"""The wheel: complete, and serving the page from a folder that is no checkout."""

import subprocess
import sys
import urllib.request
import zipfile

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.web import environment, free_port, wait_until

# What a checkout has in these folders must be in the wheel, under these names.
CONTENTS = {
    "gpt2core": "gpt2core",
    "webapp": "webapp",
    "templates": "webapp/templates",
    "static": "webapp/static",
}


def tracked_files(folder: str) -> list[str]:
    """Files of ``folder`` that git tracks, relative to it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", folder], cwd=ROOT, capture_output=True, check=True
    )
    return [name.removeprefix(f"{folder}/") for name in listed.stdout.decode().split("\0") if name]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout; its build tools come from the package registry."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel's contents, as an installer would unpack it."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("folder", CONTENTS)
def test_the_wheel_holds_every_file_of(folder, wheel):
    expected = {f"{CONTENTS[folder]}/{name}" for name in tracked_files(folder)}
    with zipfile.ZipFile(wheel) as archive:
        contents = set(archive.namelist())
    assert expected and expected - contents == set()


def run_installed(installed, folder, *arguments, **settings):
    """The ``glyph`` command of the unpacked wheel, started in ``folder``, outside the checkout."""
    code = "import sys; from webapp.command import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment(PYTHONPATH=installed, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def page_at(url: str) -> str | None:
    """What the server answers, or None while it does not yet."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read().decode()
    except OSError:
        return None


def test_an_installed_glyph_serves_the_page_with_its_own_files(installed, tmp_path):
    port = free_port()
    with run_installed(installed, tmp_path, "serve", PORT=port) as server:
        try:
            wait_until(lambda: page_at(f"http://127.0.0.1:{port}/"), "the page")
            page = page_at(f"http://127.0.0.1:{port}/")
            style = page_at(f"http://127.0.0.1:{port}/static/app.css")
        finally:
            server.terminate()
        output = server.communicate(timeout=60)[0]
    assert "Your text" in page and ".chip" in style
    assert "BufferingWorker" in output, "the packaged gunicorn.conf.py was not used"


def test_a_notebook_anywhere_shows_chips_with_the_installed_package(installed, tmp_path):
    code = "import gpt2core; print(gpt2core.show('Not all heroes')._repr_html_())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(PYTHONPATH=installed),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Ġheroes" in done.stdout and ".chip {" in done.stdout


def test_an_installed_glyph_runs_the_commands_of_the_core(installed, tmp_path):
    with run_installed(installed, tmp_path, "tokenize", "Not all heroes") as command:
        output = command.communicate(timeout=60)[0]
    assert command.returncode == 0 and "Ġheroes" in output
