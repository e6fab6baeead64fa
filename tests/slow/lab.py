"""JupyterLab as a person has it: its server, with settings of its own, and a notebook open in a real browser."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from rag_lib.base import ROOT

SECONDS = 300  # for all the cells of one notebook; the slowest takes a fifth of that on two cores
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SETTINGS = json.loads((ROOT / "notebooks/.jupyter/labconfig/default_setting_overrides.json").read_text())  # make lab's
SETTINGS["@jupyterlab/notebook-extension:tracker"] |= {"windowingMode": "none", "scrollPastEnd": False}  # all is drawn


@contextmanager
def chromium():
    """The system's Chromium, else Playwright's own; the tests are skipped where there is neither."""
    missing = "needs Playwright: python -m pip install --editable '.[browser]'"
    sync_api = pytest.importorskip("playwright.sync_api", reason=missing)
    with sync_api.sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, CHROMIUM)), playwright.chromium.executable_path)
        if not Path(path).exists():
            pytest.skip("needs Chromium: `apt-get install chromium`, or `python -m playwright install chromium`")
        arguments = ["--disable-gpu", "--disable-quic", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@contextmanager
def serve(folder: Path, home: Path, **environment: str) -> Iterator[str]:
    """JupyterLab on `folder`, with all that it keeps for a user in `home`; gives the URL of a notebook, its name as {}.

    At the end neither the server nor a kernel is left.
    """
    (home / "labconfig").mkdir(parents=True)
    (home / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")  # the others lie in these
    inherited = {name: value for name, value in os.environ.items() if name not in ("RAG_PROGRESS", "JPY_SESSION_NAME")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0"]
    with (home / "server.log").open("w") as log:
        server = psutil.Popen(
            command, env=inherited | dict.fromkeys(places, str(home)) | environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for_server(server, f"http://127.0.0.1:{port}/api?token={token}", home / "server.log")
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}"
    finally:
        stop(server)


def wait_for_server(server: psutil.Popen, url: str, log: Path) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
    raise TimeoutError(log.read_text())


def stop(server: psutil.Popen) -> None:
    """Asks the server to end its kernels and itself, and sees to it: one whose kernel is just starting may hang."""
    processes = [server, *server.children(recursive=True)] if server.is_running() else [server]
    server.terminate()
    _, left = psutil.wait_procs(processes, timeout=30)
    for process in left:
        process.kill()


class Notebook:
    """A notebook open in JupyterLab."""

    def __init__(self, page, url: str, path: Path):
        self.page, self.path = page, path
        page.goto(url.format(path.name))
        # the status bar tells an idle kernel from none; the notebook's own indicator calls both idle, and cells that
        # are run before there is a kernel are forgotten
        page.locator("#jp-main-statusbar", has_text="| Idle").wait_for(timeout=60_000)

    def run_all(self) -> None:
        """Run > Run All Cells, until none is left to run."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        # all are marked [*] at once; where one fails, those after it become [ ]
        prompts = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.textContent)"
        for condition in (f"{prompts}[0] == '[1]:'", f"!{prompts}.some(text => text.includes('*'))"):
            self.page.wait_for_function(f"() => {condition}", timeout=1000 * SECONDS)

    def save(self) -> Path:
        """Ctrl+S; where it lies on the disk then."""
        with self.page.expect_response(lambda r: r.request.method == "PUT" and "/api/contents/" in r.url) as saved:
            self.page.keyboard.press("ControlOrMeta+s")
        assert saved.value.ok
        return self.path

    def screenshot(self, path: Path) -> None:
        """The whole notebook in one picture, from a window that is high enough."""
        before = self.page.viewport_size
        cells = self.page.locator(".jp-WindowedPanel-outer")
        hidden = cells.evaluate("cells => cells.scrollHeight - cells.clientHeight")
        self.page.set_viewport_size({**before, "height": before["height"] + hidden})
        self.page.locator(".jp-NotebookPanel").screenshot(path=path, animations="disabled")
        self.page.set_viewport_size(before)
