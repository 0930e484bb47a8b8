"""WebKit by WebDriver: WebKitGTK's small browser, on a screen that Xvfb makes."""

import json
import os
import shutil
import subprocess
from glob import glob
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.webkitgtk.options import Options
from selenium.webdriver.webkitgtk.service import Service

from tests.browser.engines.engine import EngineError

DRIVER, SCREEN = "WebKitWebDriver", "Xvfb"
BROWSERS = "/usr/lib/*/webkit2gtk-4.1/MiniBrowser"
HOW_TO_GET_ONE = (
    "No WebKit found: install one, for example with `apt install webkit2gtk-driver xvfb`."
)
KEYS = {"Escape": Keys.ESCAPE, "Paste": Keys.CONTROL + "v"}


def find() -> str | None:
    """The installed browser, if its driver and a screen are there too."""
    browsers = glob(BROWSERS)
    return browsers[0] if browsers and shutil.which(DRIVER) and shutil.which(SCREEN) else None


class WebKit:
    """A window of WebKitGTK's MiniBrowser; see :class:`engine.Engine`."""

    def __init__(self, path: str, scripts: bool = True):
        # Xvfb takes a free display and writes its number.
        reader, writer = os.pipe()
        self._screen = subprocess.Popen(
            [SCREEN, "-displayfd", str(writer), "-screen", "0", "1400x1000x24"],
            pass_fds=[writer],
            stderr=subprocess.DEVNULL,
        )
        os.close(writer)
        with os.fdopen(reader) as pipe:
            display = pipe.readline().strip()
        options = Options()
        options.binary_location = path
        options.add_argument("--automation")
        options.add_argument(f"--enable-javascript={str(scripts).lower()}")
        service = Service(shutil.which(DRIVER), env={**os.environ, "DISPLAY": f":{display}"})
        try:
            self._driver = webdriver.WebKitGTK(options=options, service=service)
            self._driver.set_window_size(1280, 900)
        except BaseException:
            self._screen.kill()
            raise

    def open(self, url: str) -> None:
        self._driver.get(url)

    def evaluate(self, expression: str) -> Any:
        try:
            text = self._driver.execute_script(f"return JSON.stringify({expression})")
        except WebDriverException as error:
            raise EngineError(error.msg) from error
        return json.loads(text or "null")

    def click(self, selector: str) -> None:
        try:
            self._driver.find_element(By.CSS_SELECTOR, selector).click()
        except WebDriverException as error:
            raise EngineError(error.msg) from error

    def type(self, selector: str, text: str) -> None:
        self.click(selector)
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self._driver.switch_to.active_element.send_keys(text or Keys.BACKSPACE)

    def press(self, key: str) -> None:
        self._driver.switch_to.active_element.send_keys(KEYS[key])

    def close(self) -> None:
        self._driver.quit()
        self._screen.kill()
        self._screen.wait()
