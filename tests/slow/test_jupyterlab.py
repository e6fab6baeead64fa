"""The notebooks as a person meets them: JupyterLab in a real browser, Run All Cells, and the explorer's sliders.

`RAG_SCREENSHOTS=FOLDER` keeps a picture of each notebook.
"""

import os
import re
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lab
import nbformat
import pytest
from committed import code_cells, outputs_of

from rag_lib.base import ROOT

pytestmark = pytest.mark.slow
ALL = sorted((ROOT / "notebooks").glob("*.ipynb"))
GALLERY = ALL[1]

# Of the explorer's <img>: its pixels, once they are there.
PICTURE = """img => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [img.naturalWidth, img.naturalHeight];
    canvas.getContext('2d').drawImage(img, 0, 0);
    return img.complete && canvas.width ? canvas.toDataURL() : null;
}"""


@pytest.fixture(scope="module")
def browser():
    with lab.chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a copy of a notebook in a JupyterLab and a window of the test's own.

    Without its outputs, and with these lines at the end of its first cell.
    """
    with ExitStack() as stack:

        def open_(path: Path, parameters: str = "", **environment: str) -> lab.Notebook:
            notebook = nbformat.read(path, as_version=4)
            code = [cell for cell in notebook.cells if cell.cell_type == "code"]
            code[0].source += parameters
            for cell in code:
                cell.update(outputs=[], execution_count=None)
            copy = tmp_path / "notebooks" / path.name
            copy.parent.mkdir()
            nbformat.write(notebook, copy)
            url = stack.enter_context(lab.serve(copy.parent, tmp_path / "jupyter", **environment))
            page = browser.new_page(viewport={"width": 1500, "height": 1000})
            stack.callback(page.close)
            stack.callback(lambda: page.screenshot(path=tmp_path / "end.png"))  # what a failed test saw last
            return lab.Notebook(page, url, copy)

        yield open_


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_run_all_cells_runs_them_all_without_a_complaint(path, opened, results):
    """At preset smoke; 06 and 07, which train nothing, on what is published."""
    notebook = opened(path, RAG_SMOKE="1")
    notebook.run_all()
    if kept := os.environ.get("RAG_SCREENSHOTS"):
        notebook.screenshot(Path(kept) / f"{path.stem}.png")
    assert notebook.page.get_by_text("Show more outputs").count() == 0
    saved = notebook.save()
    complaints = [o for o in outputs_of(saved) if o.output_type == "error" or o.get("name") == "stderr"]
    assert [o.get("text") or o.traceback for o in complaints] == []
    counts = [cell.execution_count for cell in code_cells(saved)]
    assert counts == list(range(1, len(counts) + 1))


def test_make_lab_opens_a_page_that_says_where_to_start(browser, tmp_path):
    """With the settings that `make lab` names, and its first page's links."""
    makefile = (ROOT / "Makefile").read_text()
    settings, page_name = re.search(r"JUPYTER_CONFIG_PATH=(\S+) .*default_url=/lab/tree/(\S+)", makefile).groups()
    with lab.serve(ROOT, tmp_path / "jupyter", JUPYTER_CONFIG_PATH=str(ROOT / settings)) as url:
        page = browser.new_page()
        page.goto(url.format(page_name))
        page.get_by_role("heading", name="Where to start").wait_for()
        links = page.locator(".jp-RenderedMarkdown td a")
        assert links.all_text_contents() == [path.stem for path in ALL]
        for path, link in zip(ALL, links.all(), strict=True):  # followed, each would start a kernel
            assert f"/notebooks/{path.name}" in link.get_attribute("href")
        page.close()


def control(page, name: str, kind: str):
    """What a person moves in the explorer: the list of choices, or the slider's handle, beside this name."""
    label = page.locator(".widget-label", has_text=re.compile(f"^{name}$"))
    return page.locator(".rag-explorer .widget-inline-hbox", has=label).locator(kind)


@contextmanager
def another_picture(page):
    """Waits until the explorer shows another picture than before."""
    image = page.locator(".rag-explorer img").element_handle()
    before = image.evaluate(PICTURE)
    yield
    page.wait_for_function(f"([img, before]) => ![null, before].includes(({PICTURE})(img))", arg=[image, before])


def test_the_explorers_sliders_change_the_picture(opened):
    # trained enough for another image at every point; untrained, all are grey
    notebook = opened(GALLERY, '\ngan_steps = 200\noverrides = {"gan.lr": 2e-3}', RAG_SMOKE="1")
    notebook.run_all()
    page = notebook.page
    # first away from the end of the way where the other end has no say
    for name, key in [("on the way", "PageUp")] * 3 + [("seed", "ArrowRight"), ("to seed", "ArrowRight")]:
        with another_picture(page):
            control(page, name, "[role=slider]").press(key)
    for name, choice in [("class", 3), ("to class", 5), ("attention", 1), ("attention", 3), ("attention", 0)]:
        with another_picture(page):
            control(page, name, "select").select_option(index=choice)
    assert control(page, "attention", "select").input_value() == "none"  # empty would be a list that forgot it
