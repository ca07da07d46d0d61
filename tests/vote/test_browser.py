"""Simulated raters at the page in headless Chromium: they see what people see, and want what is known before.

LIMNER_SCREENSHOTS=docs python -m pytest tests/vote/test_browser.py    # the pictures of docs/vote.md

A rater knows a picture by its pixels, as it stands on the page, and in no other way.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.data.folder import read
from limner.data.sample import sample_dir
from limner.vote.checks import drawings
from limner.vote.pictures import gather
from limner.vote.report import measure
from limner.vote.schedule import QUESTIONS, SOUND, UNSOUND, Task
from limner.vote.showing import Showing
from limner.vote.store import opened

selenium = pytest.importorskip("selenium")

# Below the line that skips all of this where there is no selenium (E402).
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service as Driver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SRC = Path(__file__).parents[2] / "src"
WIDE, PHONE = (1280, 800), (390, 844)
# Seconds; a shared machine may be slow.
PATIENCE = 300
NAMES = ("red apple", "pear", "banana", "cat", "house", "sailboat", "guitar", "robot")
STYLES = {"dalle2": "fluent-3d", "glide": "twemoji"}
# Those of all screenshots that the docs show.
SHOWN = ("caption_wide_light", "diversity_phone_dark")
# How often dalle2 is preferred, and how often nobody is, by question.
PREFERRED = {"realism": 0.8, "caption": 0.45, "diversity": 0.25}
NEITHER = {"realism": 0.0, "caption": 0.2, "diversity": 0.2}
RATERS = ("anna", "ben", "Zoë Q.")
KEYS = {"left": Keys.ARROW_LEFT, "right": Keys.ARROW_RIGHT, "neither": Keys.ARROW_DOWN}
# Waits for the page to want something: a start, an answer to another task than the last, or nothing more.
WANTED = """
const [last, tell] = arguments, began = Date.now();
const shown = (id) => !document.getElementById(id).hidden;
const look = () => {
  const images = [...document.querySelectorAll(".choice img")];
  const ready = shown("ask") && !document.querySelector(".choice").disabled && images[0].src !== last;
  const what = shown("trouble") ? "trouble" : shown("end") ? "end" : shown("welcome") ? "welcome"
    : shown("before") && last !== "start" ? "start" : ready ? "ask" : null;
  if (what === null && Date.now() - began < 60000) return setTimeout(look, 20);
  const seen = what !== "ask" ? [] : images.map((image) => {
    const wide = image.naturalWidth, canvas = document.createElement("canvas");
    Object.assign(canvas, {width: wide, height: wide});
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const data = context.getImageData(0, 0, wide, wide).data;
    const at = (n) => 4 * (wide * Math.floor((n >> 4) * wide / 16) + Math.floor((n & 15) * wide / 16));
    return Array.from({length: 256}, (_, n) => [data[at(n)], data[at(n) + 1], data[at(n) + 2]]);
  });
  const text = (id) => document.getElementById(id).textContent;
  tell({what, seen, source: images[0].src, question: text("question"), caption: text("caption"),
    said: text("trouble"), progress: text("progress-label")});
};
look();
"""
ASKED = {
    "Which picture looks more real?": "realism",
    "Which picture shows this better?": "caption",
    "Which set is more varied?": "diversity",
}


def variants(picture, count):
    """A drawing in `count` ways: turned, smaller, on grounds of other colours."""
    for number in range(count):
        ground = Image.new("RGBA", picture.size, f"hsl({number * 67 % 360}, 60%, {97 - number % 4 * 6}%)")
        turned = picture.rotate((number * 37) % 60 - 30, Image.Resampling.BICUBIC) if number else picture
        yield Image.alpha_composite(ground, turned).convert("RGB")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two "models" who draw eight things in sixteen ways."""
    folder = tmp_path_factory.mktemp("comparison")
    lines = ["model,prompt,number,file"]
    drawn = {(one.facts["style"], one.facts["name"]): one.file for one in read(sample_dir()).records}
    for model, style in STYLES.items():
        for name in NAMES:
            with Image.open(drawn[style, name]) as opened_:
                pictures = variants(opened_.convert("RGBA"), 16)
                for number, picture in enumerate(pictures, 1):
                    file = f"{model}-{name}-{number}.png".replace(" ", "-")
                    picture.save(folder / file)
                    lines.append(f"{model},a {name},{number},{file}")
    (folder / "pictures.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def eyes(folder):
    """From the pixels of a side to what stands there: a model, or which side of a check."""
    showing = Showing(gather(folder), drawings())
    known, labels = {}, {}
    for question in QUESTIONS:
        tasks = [
            Task(question, f"a {name}", 0 if question == "diversity" else 1, *STYLES, "asked")
            for name in NAMES
        ]
        tasks += [
            Task(question, one.caption, number, SOUND, UNSOUND, "check")
            for number, one in enumerate(showing.drawings)
        ]
        sides = [(task, side) for task in tasks for side in ("left", "right")]
        pictures = [np.asarray(showing.image(*each), float) for each in sides]
        places = np.arange(16) * len(pictures[0]) // 16
        known[question] = np.stack([picture[places][:, places] for picture in pictures])
        labels[question] = [(task.prompt, getattr(task, side)) for task, side in sides]

    def look(question, caption, pixels):
        seen = np.array(pixels, float).reshape(16, 16, 3)
        away = np.abs(known[question] - seen).mean(axis=(1, 2, 3))
        # A drawing is right beside one caption and wrong beside another.
        away[[caption not in ("", prompt) for prompt, _ in labels[question]]] = np.inf
        assert away.min() < 1
        return labels[question][int(away.argmin())][1]

    return look


@pytest.fixture(scope="module")
def address(folder):
    """Where `limner vote` says that it is."""
    command = [sys.executable, "-m", "limner", "vote", str(folder), "--port", "0"]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(SRC)}, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.stdout.close()
        process.terminate()
        assert process.wait(PATIENCE) == 0


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """axe-core of npm, where it is found."""
    if shutil.which("npm") is None:
        return None
    folder = tmp_path_factory.mktemp("axe")
    (folder / "package.json").write_text('{"private": true}')
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--silent"]
    command = ["npm", "install", "axe-core", *options]
    try:
        done = subprocess.run(command, cwd=folder, timeout=180, capture_output=True, check=False)
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode else (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


class Page:
    """The page in a browser."""

    def __init__(self, driver, address, axe, shots):
        self.driver, self.address, self.axe, self.shots = driver, address, axe, shots
        self.last = None

    def resize(self, size, *, dark=False):
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        time.sleep(0.3)

    def wanted(self):
        found = self.driver.execute_async_script(WANTED, self.last)
        assert found["what"] not in (None, "trouble"), found["said"]
        self.last = {"ask": found["source"], "start": "start"}.get(found["what"])
        return found

    def press(self, key):
        ActionChains(self.driver, duration=0).send_keys(key).perform()

    def join(self, name):
        self.driver.get(self.address)
        self.last = None
        if self.wanted()["what"] != "welcome":
            self.driver.find_element(By.ID, "leave").click()
            self.last = None
            while self.wanted()["what"] != "welcome":
                time.sleep(0.05)
        field = self.driver.find_element(By.ID, "said")
        field.clear()
        field.send_keys(name, Keys.ENTER)
        self.driver.execute_async_script(
            "const tell = arguments[0], look = () => document.getElementById('welcome').hidden ? tell() "
            ": setTimeout(look, 20); look()"
        )

    def shoot(self, name):
        self.driver.execute_script("window.scrollTo(0, 0)")
        time.sleep(0.2)
        file = f"vote_{name}.png"
        assert self.driver.save_screenshot(str(self.shots / file))
        if name in SHOWN and "LIMNER_SCREENSHOTS" in os.environ:
            shutil.copy(self.shots / file, os.environ["LIMNER_SCREENSHOTS"])

    def sound(self):
        """Nothing serious for axe-core where it is there, and nothing hangs out at the side."""
        wide = self.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1]
        if self.axe is None:
            return
        # In the page's own world no script may come from elsewhere; the driver's are not of the page.
        self.driver.execute_script(self.axe)
        found = self.driver.execute_async_script(
            "const tell = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(tell)"
        )
        faults = [
            (fault["id"], [node["html"][:200] for node in fault["nodes"][:3]])
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        assert faults == []


@pytest.fixture(scope="module")
def page(address, axe, tmp_path_factory):
    shots = tmp_path_factory.mktemp("shots")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Driver(DRIVER))
    driver.set_script_timeout(PATIENCE)
    try:
        found = Page(driver, address, axe, shots)
        found.resize(WIDE)
        yield found
    finally:
        driver.quit()


def test_raters_with_known_preferences(page, eyes, folder):
    """Everything a rater does, by keyboard; what the report finds is what they wanted."""
    chance = np.random.default_rng(2)
    shots = set()
    for turn, name in enumerate(RATERS):
        page.join(name)
        while (found := page.wanted())["what"] != "end":
            if found["what"] == "start":
                if turn == 0:
                    page.sound()
                page.press(Keys.ENTER)
                continue
            question = ASKED[found["question"]]
            left, right = (eyes(question, found["caption"], pixels) for pixels in found["seen"])
            if turn == 0 and question not in shots and left in STYLES:
                shots.add(question)
                look_over(page, question)
            if {left, right} == {SOUND, UNSOUND}:
                answer = "left" if left == SOUND else "right"
            elif chance.random() < NEITHER[question]:
                answer = "neither"
            else:
                wanted = "dalle2" if chance.random() < PREFERRED[question] else "glide"
                answer = "left" if left == wanted else "right"
            page.press(KEYS[answer])
        if turn == 0:
            page.sound()
    check_report(folder)


def look_over(page, question):
    """The page as it asks, wide and narrow, light and dark."""
    for width, size in (("wide", WIDE), ("phone", PHONE)):
        for dark in (False, True):
            page.resize(size, dark=dark)
            page.sound()
            page.shoot(f"{question}_{width}_{'dark' if dark else 'light'}")
    page.resize(WIDE)


def check_report(folder):
    store = opened(folder, "people")
    votes = store.votes()
    store.close()
    found = measure(votes, "people")
    assert {pair.question: pair.share.votes for pair in found.pairs} == dict.fromkeys(QUESTIONS, 24)
    for pair in found.pairs:
        neither = NEITHER[pair.question]
        truth = neither / 2 + (1 - neither) * PREFERRED[pair.question]
        for interval in (pair.share.wilson, pair.share.bootstrap):
            assert interval.low <= truth <= interval.high, (pair.question, truth, interval)
    assert [voter.name for voter in found.voters] == list(RATERS)
    assert all(voter.checks == voter.passed > 0 and voter.repeats > 0 for voter in found.voters)
    assert found.sides.p > 0.01
    assert found.order.p > 0.01
    assert abs(2 * found.left - found.shown) <= len(QUESTIONS)
    print(f"sides p = {found.sides.p:.3f}, order p = {found.order.p:.3f}, left {found.left} of {found.shown}")


def test_an_answer_is_taken_back_by_mouse_and_the_rater_is_known_again(page, folder):
    page.join("dora")
    page.wanted()
    page.driver.find_element(By.ID, "go").click()
    first = page.wanted()
    page.driver.find_element(By.CSS_SELECTOR, ".choice[data-answer=left]").click()
    second = page.wanted()
    assert second["source"] != first["source"]
    assert page.driver.find_element(By.ID, "saved").text == "A: saved"
    page.press(Keys.BACKSPACE)
    again = page.wanted()
    assert (again["source"], again["progress"][:2]) == (first["source"], "0 ")
    page.driver.find_element(By.CSS_SELECTOR, ".choice[data-answer=right]").click()
    assert page.wanted()["source"] == second["source"]
    page.driver.refresh()
    page.last = None
    assert page.wanted()["what"] == "start"
    page.press(Keys.ENTER)
    assert page.wanted()["source"] == second["source"]
    store = opened(folder, "people")
    assert [vote.answer for vote in store.votes() if vote.rater == "dora"] == ["right"]
    store.close()


def test_a_long_name_gives_way_on_a_narrow_page(page):
    page.resize((360, 640))
    page.join("Maximiliane Wilhelmine Alexandra")
    page.wanted()
    lines, name, wide = page.driver.execute_script(
        "const lines = (one) => one.offsetHeight / parseFloat(getComputedStyle(one).lineHeight);"
        "const inside = (id) => document.getElementById(id).getBoundingClientRect();"
        "return [[document.querySelector('.brand'), document.getElementById('name')].map(lines).concat("
        "  inside('leave').height < 50 ? 1 : 2), inside('name').width,"
        "  document.documentElement.scrollWidth]"
    )
    assert max(lines) < 1.5
    assert name > 60
    assert wide <= 360
    page.resize(WIDE)


def test_nobody_else_was_asked_and_nothing_complained(page):
    assert [line["message"] for line in page.driver.get_log("browser") if line["level"] == "SEVERE"] == []
    events = [json.loads(line["message"])["message"] for line in page.driver.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    assert [url for url in asked if not url.startswith((page.address, "data:", "chrome:"))] == []
    assert not any(model in url for url in asked for model in STYLES)
