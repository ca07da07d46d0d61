"""The docs hold: examples run and print what stands beside them, commands parse, links lead somewhere."""

import importlib.util
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from limner.cli import parse
from limner.errors import LimnerError

pytestmark = pytest.mark.filterwarnings("ignore")  # other people's, on first import of their training code

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [ROOT / "README.md", *PAGES]
# Folders of the package that are told of elsewhere than on a page of their own name.
ELSEWHERE = {"cli": "command.md", "layers": "index.md", "comparison": "evaluation.md"}
# Made by commands that need what ships; until the README shows them they may be still to come.
MADE_LATER = {ROOT / "docs" / name for name in ("sheet.png", "results.md", "comparison.md")}
# What no test may wait for: the weights that ship, and the network.
BEYOND = ('limner.load("dalle2")', "fetch(")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
INLINE = re.compile(r"`(limner [^`]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# A line that prints, and what it prints: beside it, or on the line below where there is no room.
PRINTED = re.compile(r"^print\(.*\)(?:  |\n)# (.+)$", re.MULTILINE)


def name(path: Path) -> str:
    return path.stem


def blocks(text: str, *languages: str) -> list[str]:
    return [block for language, block in FENCE.findall(COMMENT.sub("", text)) if language in languages]


def prose(text: str) -> str:
    return FENCE.sub("", COMMENT.sub("", text))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder to work in, with a line of random weights where the pages have a trained one."""
    folder = tmp_path_factory.mktemp("docs")
    source = ROOT / "tests" / "pipelines" / "tiny_line.py"
    spec = importlib.util.spec_from_file_location("tiny_line_of_docs", source)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    tiny.write(folder / "runs" / "toy" / "line")
    tiny.write_dalle1(folder / "runs" / "toy" / "dalle1")
    tiny.write_dfgan(folder / "runs" / "toy" / "dfgan")
    return folder


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_examples_run_and_print_what_they_say(path, scratch, monkeypatch, capsys):
    """The examples of a page are one program, run from top to bottom."""
    monkeypatch.chdir(scratch)
    module = ModuleType(f"example_{path.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(path.read_text(), "python"):
        code = compile(block, str(path), "exec")
        if any(call in block for call in BEYOND):
            continue
        capsys.readouterr()
        exec(code, module.__dict__)
        printed = capsys.readouterr().out.splitlines()
        expected = PRINTED.findall(block)
        assert [line for line in printed if line in expected] == expected, printed


def commands(text: str) -> list[str]:
    """Whole lines of blocks that run limner, and what stands in the prose as code."""
    lines = "\n".join(blocks(text, "", "console", "sh", "bash")).replace("\\\n", " ").splitlines()
    found = [line for line in lines if re.match(r"(\$ )?(limner|.* -m limner) ", line)]
    return found + [" ".join(command.split()) for command in INLINE.findall(prose(text))]


def test_every_page_with_commands_is_seen():
    assert len(commands((ROOT / "README.md").read_text())) >= 8
    assert len(commands((ROOT / "docs" / "command.md").read_text())) >= 12


def understood(arguments: list[str]) -> bool:
    try:
        parse(arguments)
    except LimnerError:
        return False
    except SystemExit as ended:  # help was asked for
        return not ended.code
    return True


@pytest.mark.parametrize(
    "command",
    [pytest.param(line, id=f"{path.stem}: {line}") for path in TEXTS for line in commands(path.read_text())],
)
def test_commands_are_understood(command):
    words = shlex.split(command, comments=True)
    arguments = words[words.index("limner") + 1 :]
    # `limner data check`, said in passing, is a command's name and no call of it.
    only_named = not any(word.startswith("-") for word in arguments)
    assert understood(arguments) or (only_named and understood([*arguments, "--help"]))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_links_lead_somewhere(path):
    shown = {(ROOT / link).resolve() for link in LINK.findall(prose((ROOT / "README.md").read_text()))}
    for link in LINK.findall(prose(path.read_text())):
        if re.match(r"\w+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        if not target.exists() and target in MADE_LATER - shown:
            continue
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_sheet_is_shown_as_soon_as_it_is_there():
    sheet = "docs/sheet.png"
    assert not (ROOT / sheet).exists() or sheet in LINK.findall(prose((ROOT / "README.md").read_text()))


def test_every_room_has_its_page():
    rooms = [folder.parent.name for folder in sorted((ROOT / "src" / "limner").glob("*/__init__.py"))]
    assert rooms
    for room in rooms:
        page = ROOT / "docs" / ELSEWHERE.get(room, f"{room}.md")
        assert page.is_file(), room
        assert room in ELSEWHERE or page.read_text().startswith(f"# {room}: ")
    assert "- `layers`: " in (ROOT / "docs" / "index.md").read_text()


def test_the_menu_has_every_page_once_and_no_other():
    listed = re.findall(r"^  - (\w+): (\S+)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    to_come = {page.name for page in MADE_LATER if not page.exists()}
    assert sorted(page for _, page in listed if page not in to_come) == [page.name for page in PAGES]
    cards = re.findall(r"^    - .+: (cards/\S+)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(cards) == sorted(f"cards/{page.name}" for page in (ROOT / "docs" / "cards").glob("*.md"))


def test_the_house_is_described_as_it_stands():
    """The arrows of the index are those that import-linter holds, without the rooms still to be built."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    package = ROOT / "src" / "limner"

    def stands(part: str) -> bool:
        return (package / part / "__init__.py").is_file() or (package / f"{part}.py").is_file()

    layers = []
    for layer in project["tool"]["importlinter"]["contracts"][0]["layers"]:
        parts = [part.strip(" ()") for part in layer.split("|")]
        layers.append(" | ".join(part for part in parts if stands(part)))
    (arrows,) = blocks((ROOT / "docs" / "index.md").read_text(), "text")
    assert arrows.splitlines() == [layer for layer in layers if layer]
