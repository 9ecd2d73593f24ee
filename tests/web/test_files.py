"""The files of the dashboard: what no browser has to be there for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hstore.node.api import ui
from hstore.node.api.gate import Right
from hstore.node.web import files

ROOT = Path(files.__file__).parent
OURS = sorted(
    path for folder in (ROOT, ROOT / "pages") for path in folder.iterdir() if path.suffix == ".js"
)
SIZE_MAX = 250 * 1024
# Ways from a string to HTML or to code.
DANGEROUS = re.compile(
    r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|DOMParser|srcdoc"
    r"|createContextualFragment|setHTMLUnsafe)\b|\bnew Function\b|javascript:"
)


def test_the_whole_dashboard_is_smaller_than_its_bound():
    loaded = {
        file for name, file in files.load().items() if not name.endswith(b".txt") and name != b""
    }

    assert sum(len(file.body) for file in loaded) < SIZE_MAX


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_module_makes_html_or_code_of_a_string(path):
    assert DANGEROUS.findall(path.read_text()) == []


def test_the_document_has_no_script_and_no_style_of_its_own():
    text = (ROOT / "index.html").read_text()

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text) == []


@pytest.mark.parametrize("path", [*OURS, ROOT / "base.css", ROOT / "index.html"], ids=str)
def test_no_file_of_ours_leads_off_the_node(path):
    addresses = set(re.findall(r"https?://[^\s'\"`)]+", path.read_text()))

    # Names, not addresses: nothing is fetched from them.
    assert addresses - {"http://www.w3.org/2000/svg"} == set()


def test_every_module_that_is_imported_is_there():
    for path in OURS:
        for name in re.findall(r"(?:from|import) '(\.[^']+)'", path.read_text()):
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"


def test_the_licence_of_what_is_vendored_is_there():
    assert b"MIT License" in files.load()[b"vendor/uPlot.LICENSE.txt"].body


def test_what_the_dashboard_offers_are_rights_and_never_those_of_tokens():
    writes = {right.value for right in Right if right.value.endswith(" write")}

    assert set(ui.MAY) == writes - {Right.ACL_WRITE.value}
