from __future__ import annotations

import dataclasses
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from parser_vae.evaluation import Report, evaluate
from parser_vae.evaluation.domain import DomainDivergence
from parser_vae.treebank.sentence import Sentence
from tests.evaluation.material import english, perturbed, synthetic

BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
ARABIC = Sentence.from_words(["كتب", "الولد", "رسالة"], heads=[0, 1, 1], deprels=["root", "nsubj", "obj"])
HOSTILE = Sentence.from_words(["<script>alert(1)</script>", "&lt;"], ["X", "X"], [0, 1], ["root", "<b>"])


def compared() -> Report:
    gold = (*synthetic(60, 3), ARABIC, HOSTILE)
    worse = (*perturbed(gold[:-2], 0.4, 1), ARABIC.with_tree([3, 3, 0]), HOSTILE.with_tree([2, 0]))
    return evaluate(gold, (*perturbed(gold[:-2], 0.25, 2), ARABIC, HOSTILE), worse, resamples=200)


@pytest.fixture(scope="module")
def page() -> str:
    domain = DomainDivergence(91.0, 1.64, ("flight", "<tag>"), ("الولد",))
    report = dataclasses.replace(compared(), domain=domain)
    return report.to_html("Atis & <others>", command="parser-vae evaluate --gold 'a & b'")


class Outline(HTMLParser):
    """Every tag with its attributes, every text, and whether each tag was closed in order."""

    VOID = frozenset({"meta", "input", "link", "br", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_page_is_balanced_and_needs_nothing_from_outside(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    assert {tag for tag, _ in outline.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "b>"})
    assert not any(
        name in attributes for _, attributes in outline.tags for name in ("src", "href", "onclick", "onload")
    )
    assert "url(" not in page
    assert "@import" not in page


def test_page_shows_names_words_and_command_as_they_are(page: str) -> None:
    texts = Outline(page).texts
    assert "Atis & <others>" in texts
    assert "parser-vae evaluate --gold 'a & b'" in texts
    assert "<tag>" in texts
    assert page.count("<script") == 0


def test_sentences_that_look_like_markup_are_shown_as_they_are() -> None:
    gold = (ARABIC, HOSTILE)
    changed = (ARABIC, HOSTILE.with_tree([2, 0]))
    page = evaluate(gold, gold, changed, resamples=20).to_html("Markup")
    texts = Outline(page).texts
    assert "<script>alert(1)</script> &lt;" in texts  # the sentence
    assert texts.count("<script>alert(1)</script>") == 3  # the word in each tree
    assert "<b>" in texts
    assert page.count("<script") == 0


def test_page_tells_the_finding_the_scores_and_the_sentences(page: str) -> None:
    report = compared()
    text = " ".join(Outline(page).texts)
    uas = report.scorers["nltk"].uas
    assert uas.change is not None
    assert f"{uas.change.before:.1f} to {uas.value:.1f}" in text
    assert "Most improved" in text
    assert "Most worsened" in text
    assert page.count("<figure>") == 6
    assert page.count('class="tree"') == 18
    assert "proxy A-distance 1.64" in text
    for relation in ("nsubj:pass", "unknown"):
        assert f"<th>{relation}</th>" in page


def test_page_of_one_system_shows_scores_and_hard_sentences() -> None:
    page = evaluate(english(), perturbed(english(), 0.5, 1), resamples=20).to_html("One system")
    outline = Outline(page)
    assert "Hardest" in outline.texts
    assert "before" not in outline.texts
    assert "Only 2 sentences: intervals and p-values from so few are rough." in outline.texts
    perfect = evaluate(english(), english(), resamples=20).to_html("Perfect")
    assert "There is none." in Outline(perfect).texts


# ------------------------------------------------------------------------------------------------ in a browser


def picture_rows(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and the rows of pixels, each still filtered (PNG specification, section 9)."""
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    data, at = b"", 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    raw = zlib.decompress(data)
    stride = len(raw) // height
    return width, height, [raw[start : start + stride] for start in range(0, len(raw), stride)]


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on PATH to render the page in")
def test_a_browser_shows_the_page_in_a_narrow_window(page: str, tmp_path: Path) -> None:
    assert BROWSER is not None
    file, picture = tmp_path / "report.html", tmp_path / "report.png"
    # the page itself has no scripts; this copy measures what the browser made of it
    measure = (
        "<script>onload = () => { const height = (s) => document.querySelector(s).getBoundingClientRect().height;"
        "const page = document.documentElement; const dots = document.querySelectorAll('.panel-nltk td.plot > svg');"
        "document.body.dataset.found = [page.scrollWidth - page.clientWidth, height('.tree'), height('.panel-nltk'),"
        "height('.panel-conll18'), [...dots].filter(e => e.clientWidth > 50).length].join(); }</script>"
    )
    file.write_text(page.replace("</body>", f"{measure}</body>"), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=500,700", "--dump-dom"]
    command += [f"--screenshot={picture}", file.as_uri()]
    dom = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout.decode()
    assert "الولد" in dom
    overflow, tree, nltk, conll18, dots = map(float, dom.split('data-found="')[1].split('"')[0].split(","))
    assert overflow <= 0, "the page is wider than the window"
    assert tree > 50
    assert nltk > 300
    assert conll18 == 0, "only the chosen convention is seen"
    assert dots > 10
    width, height, rows = picture_rows(picture.read_bytes())
    assert (width, height) == (500, 700)
    assert len(set(rows)) > 200, "the picture is mostly blank"
