"""A browser at the page: Chromium, headless, does what somebody would, and axe-core looks over each tab.

LIMNER_SCREENSHOTS=docs python -m pytest tests/studio/test_browser.py    # the pictures of docs/studio.md

The painters are those that ship, so that there is something to see.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from limner.data.sample import sample_dir

selenium = pytest.importorskip("selenium")

# Below the line that skips all of this where there is no selenium (E402).
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service as Driver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SRC = Path(__file__).parents[2] / "src"
WIDE, PHONE = (1280, 900), (390, 844)
# Seconds; a shared machine may paint slowly.
PATIENCE = 180
APPLE, PEAR = (str(sample_dir() / "noto" / f"{code}.png") for code in ("1f34e", "1f350"))


class Page:
    """The page in a browser, and what a person does with it."""

    def __init__(self, driver, address, axe, shots):
        self.driver, self.address, self.axe, self.shots = driver, address, axe, shots

    def open(self, *, dark=False):
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
        )
        self.driver.get(f"{self.address}/studio/")
        self.until(lambda: self.all("#lm-paint-go"))

    def resize(self, width, height):
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        time.sleep(0.5)

    def until(self, true):
        return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.2).until(lambda _: true())

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, selector):
        self.until(lambda: self.all(selector) and self.one(selector).is_displayed())
        element = self.one(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def choose(self, field, value):
        self.press(f"{field} label:has(input[value='{value}'])")

    def write(self, field, text):
        element = self.one(f"{field} textarea, {field} input[type=text], {field} input:not([type])")
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(text)

    def give(self, field, path):
        self.until(lambda: self.all(f"{field} input[type=file]"))
        self.one(f"{field} input[type=file]").send_keys(path)
        self.until(lambda: self.all(f"{field} img"))

    def tab(self, name, bar="#lm-tabs"):
        (button,) = [one for one in self.all(f"{bar} button[role=tab]") if one.text.strip() == name]
        button.click()
        self.until(lambda: button.get_attribute("aria-selected") == "true")

    def said(self, note, *words):
        """Wait for words of a note; whatever goes wrong is said there too."""

        def there():
            assert not self.all(f"{note} [role=alert]"), self.one(note).text
            return any(word in self.one(note).text for word in words)

        self.until(there)

    def scroll_width(self):
        return self.driver.execute_script("return document.documentElement.scrollWidth")

    def shoot(self, name):
        """A picture of all of the page."""
        self.driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
        width, _ = WIDE
        self.resize(width, 800)
        height = self.driver.execute_script("return document.querySelector('.gradio-container').scrollHeight")
        self.resize(width, min(height + 24, 2400))
        assert self.driver.save_screenshot(str(self.shots / f"studio_{name}.png"))
        self.resize(*WIDE)

    def faults(self):
        """What axe-core calls serious or critical; nothing where it is not there."""
        if self.axe is None:
            return []
        self.driver.execute_script(self.axe)
        found = self.driver.execute_async_script(
            "const tell = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(tell)"
        )
        assert found["passes"] or found["violations"]
        return [
            (fault["id"], [node["html"][:200] for node in fault["nodes"][:3]])
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]

    def errors(self):
        """What the console calls an error."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]

    def asked(self):
        """All addresses that were asked for anything since the last call."""
        events = [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]
        requests = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in requests]


@pytest.fixture(scope="module")
def there(tmp_path_factory, folder):
    """The folder in which the studio is started, with somebody's pictures in it."""
    there = tmp_path_factory.mktemp("studio")
    shutil.copytree(folder, there / "my-pictures")
    return there


@pytest.fixture(scope="module")
def address(there):
    """Where `limner studio` says that it is: the command itself, with the painters that ship.

    In a process of its own, for the checks of shapes in the tests make plain functions of generators, which
    Gradio takes for something else.
    """
    command = [sys.executable, "-m", "limner", "studio", "--port", "0", "--no-browser"]
    with (there / "said.txt").open("w+") as said:
        process = subprocess.Popen(
            command,
            cwd=there,
            env=os.environ | {"PYTHONPATH": str(SRC)},
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        try:
            line = process.stdout.readline()
            if not line:
                said.seek(0)
                pytest.skip(f"no studio: {said.read()}")
            yield line.removeprefix("the studio is at ").partition("/ ")[0]
        finally:
            process.stdout.close()
            process.terminate()
            assert process.wait(PATIENCE) == 0
            said.seek(0)
            assert said.read() == ""


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """axe-core of npm, where it is found."""
    if shutil.which("npm") is None:
        return None
    folder = tmp_path_factory.mktemp("axe")
    (folder / "package.json").write_text('{"private": true}')
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--silent"]
    try:
        done = subprocess.run(
            ["npm", "install", "axe-core", *options],
            cwd=folder,
            timeout=180,
            capture_output=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode else (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def page(address, axe, tmp_path_factory):
    shots = Path(os.environ.get("LIMNER_SCREENSHOTS") or tmp_path_factory.mktemp("shots")).absolute()
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Driver(DRIVER))
    driver.set_script_timeout(PATIENCE)
    try:
        found = Page(driver, address, axe, shots)
        found.resize(*WIDE)
        found.open()
        yield found
    finally:
        driver.quit()


@pytest.fixture(autouse=True)
def clean(page):
    """After every visit: no error in the console, no serious fault, and nobody else was asked."""
    yield
    assert page.errors() == []
    assert page.faults() == []
    own = (page.address, "data:", "blob:", "chrome:", "about:")
    assert [url for url in page.asked() if not url.startswith(own)] == []


def test_axe_looks_over_every_tab(axe):
    if axe is None:
        pytest.skip("npm does not find axe-core, so that faults are looked for by nobody")
    assert "axe.run" in axe or "axe" in axe


def test_it_paints_and_the_picture_can_be_fetched(page):
    page.write("#lm-paint-prompt", "a red apple")
    page.press("#lm-paint-more button")
    page.until(lambda: page.all("#lm-paint-seed textarea, #lm-paint-seed input"))
    page.write("#lm-paint-seed", "7")
    page.press("#lm-paint-go")
    page.until(lambda: page.all("#lm-paint-note progress"))
    page.said("#lm-paint-note", "painted 2 pictures")
    pictures = page.all("#lm-paint-wall .lm-picture")
    assert [one.find_element(By.CSS_SELECTOR, "figcaption").text.split("\n")[0] for one in pictures] == [
        "a red apple",
        "a red apple",
    ]
    source = pictures[0].find_element(By.CSS_SELECTOR, "a[download]").get_attribute("href")
    fetched = page.driver.execute_async_script(
        "const tell = arguments[1]; "
        "fetch(arguments[0]).then(r => r.blob()).then(b => tell([b.type, b.size]))",
        source,
    )
    assert fetched[0] == "image/png"
    assert fetched[1] > 10_000
    page.press("#lm-paint-wall details summary")
    assert "weights" in page.one("#lm-paint-wall details dl").text
    page.press("#lm-paint-wall details summary")
    page.shoot("paint")


def test_what_cannot_be_painted_is_said_and_the_pictures_stay(page):
    page.write("#lm-paint-seed", "many")
    page.press("#lm-paint-go")
    page.until(lambda: page.all("#lm-paint-note [role=alert]"))
    assert "Seed is 'many': give a whole number" in page.one("#lm-paint-note").text
    assert len(page.all("#lm-paint-wall .lm-picture")) == 2
    page.write("#lm-paint-seed", "7")


def test_a_mask_is_drawn_by_hand_and_by_keyboard_and_mended(page):
    page.press("#lm-paint-wall button[data-do=edit]")
    page.until(lambda: page.all("#lm-brush canvas") and page.one("#lm-brush canvas").is_displayed())
    canvas = page.one("#lm-brush canvas")
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    drawn = ActionChains(page.driver).move_to_element_with_offset(canvas, -80, -60).click_and_hold()
    drawn.move_by_offset(90, 10).move_by_offset(40, 60).move_by_offset(-120, 20).release().perform()
    said = page.one("#lm-brush [role=status]")
    page.until(lambda: "is marked" in said.text and "Nothing" not in said.text)
    before = int(said.text.split()[0])
    canvas.send_keys(Keys.ARROW_DOWN * 6, " ")
    page.until(lambda: int(said.text.split()[0]) > before)
    page.write("#lm-edit-prompt", "a green apple")
    page.press("#lm-edit-go")
    page.said("#lm-edit-note", "painted anew")
    assert len(page.all("#lm-edit-wall .lm-picture")) == 1
    page.shoot("edit")


def test_two_pictures_are_blended_and_walked_between(page):
    page.tab("Vary and blend")
    page.choose("#lm-vary-what", "Blend two")
    page.give("#lm-vary-first", APPLE)
    page.give("#lm-vary-last", PEAR)
    page.choose("#lm-vary-size", "64")
    page.press("#lm-vary-go")
    page.said("#lm-vary-note", "made 7 pictures")
    slider = page.one("#lm-vary-wall .lm-way input[type=range]")
    page.driver.execute_script("arguments[0].focus()", slider)
    output = page.one("#lm-vary-wall .lm-way output")
    assert output.text == "50 % of the second"
    slider.send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: output.text == "67 % of the second")
    shown = [one for one in page.all("#lm-vary-wall .lm-way-frame") if one.is_displayed()]
    assert len(shown) == 1
    page.shoot("vary")


def test_inside_shows_how_a_picture_came_about(page):
    page.tab("Paint")
    page.press("#lm-paint-wall button[data-do=inside]")
    page.until(lambda: page.one("#lm-inside-go").is_displayed())
    field = page.one("#lm-inside-seed textarea, #lm-inside-seed input")
    page.until(lambda: field.get_attribute("value") == "7")
    page.press("#lm-inside-go")
    page.said("#lm-inside-note", "all of it is shown")
    titles = [one.text for one in page.all("#lm-inside-shown h2")]
    assert titles == [
        *("Words as tokens", "A place in CLIP's space", "Its neighbours"),
        *("Noise becomes a picture", "The film strip", "The picture"),
    ]
    page.shoot("inside")


def test_inside_shows_dalle1s_grid(page):
    page.choose("#lm-inside-model", "dalle1")
    page.press("#lm-inside-go")
    page.until(lambda: "The grid fills in" in page.one("#lm-inside-shown").text)
    page.said("#lm-inside-note", "all of it is shown")
    page.shoot("inside_tokens")


def test_a_picture_is_looked_at_under_the_lens(page):
    page.tab("Under the lens", "#lm-inside-tabs")
    page.until(lambda: page.all("#lm-lens-picture img"))  # the one that was looked inside
    page.press("#lm-lens-read")
    page.until(lambda: page.all("#lm-lens-shown .lm-bar"))
    assert page.one("#lm-lens-shown .lm-bar-name").text == "a red apple"
    page.press("#lm-lens-kept")
    page.until(lambda: "What is kept of it" in page.one("#lm-lens-shown").text)
    assert [one.text for one in page.all("#lm-lens-shown .lm-card h2")] == ["vae", "vqvae", "vqvae2", "dvae"]
    page.shoot("lens")


def test_all_painters_are_compared(page):
    page.tab("Compare")
    page.write("#lm-compare-seed", "7")
    page.press("#lm-compare-go")
    page.said("#lm-compare-note", "all painted from seed 7")
    assert [one.text for one in page.all("#lm-compare-shown h2")] == ["dalle2", "glide", "dalle1"]
    assert page.one("#lm-compare-shown").text.count("weights in memory") == 3
    page.shoot("compare")


def test_a_toy_run_is_trained_stopped_and_gone_on_with(page, there):
    page.tab("Your pictures")
    page.write("#lm-yours-folder", "my-pictures")
    page.press("#lm-yours-check")
    page.until(lambda: "pictures that can be used" in page.one("#lm-yours-report").text)
    page.choose("#lm-yours-room", "vae")
    page.write("#lm-yours-steps", "200")
    page.press("#lm-yours-start")
    page.until(lambda: page.all("#lm-yours-run svg.lm-curve"))
    page.press("#lm-yours-stop")
    page.said("#lm-yours-note", "stopped, and saved")
    page.press("#lm-yours-resume")
    page.said("#lm-yours-note", "finished: 200 of 200 steps")
    page.until(lambda: page.all("#lm-yours-run .lm-samples img"))
    assert (there / "runs" / "mine" / "model" / "model.safetensors").is_file()
    page.shoot("yours")


def test_on_a_phone_and_in_the_dark_nothing_is_cut_off(page):
    page.resize(*PHONE)
    page.open(dark=True)
    assert page.driver.execute_script("return document.body.classList.contains('dark')")
    width, _ = PHONE
    for name in ("Paint", "Edit", "Vary and blend", "Inside", "Compare", "Your pictures"):
        found = [one for one in page.all("#lm-tabs button[role=tab]") if one.text.strip() == name]
        if not found or not found[0].is_displayed():
            # Tabs that do not fit lie behind a button.
            page.press("#lm-tabs .overflow-menu > button")
            found = [
                one for one in page.all("#lm-tabs .overflow-dropdown button") if one.text.strip() == name
            ]
        found[0].click()
        time.sleep(0.5)
        assert page.scroll_width() <= width, name
        assert page.faults() == [], name
    page.resize(*WIDE)
    page.open()


def test_all_of_a_painting_is_done_with_the_keyboard(page):
    # So many steps that there is something to stop.
    page.press("#lm-paint-more button")
    page.until(lambda: page.all("#lm-paint-steps textarea, #lm-paint-steps input"))
    page.write("#lm-paint-steps", "1000")
    field = page.one("#lm-paint-prompt textarea")
    page.driver.execute_script("arguments[0].focus()", field)
    field.send_keys(Keys.CONTROL, "a")
    ActionChains(page.driver).send_keys("a cat").perform()
    reached = []
    for _ in range(30):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        reached.append(page.driver.switch_to.active_element)
        if reached[-1].get_attribute("id") == "lm-paint-go":
            break
    assert reached[-1].get_attribute("id") == "lm-paint-go"
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.until(lambda: page.all("#lm-paint-note progress"))
    page.press("#lm-paint-stop")
    page.until(lambda: "stopped" in page.one("#lm-paint-note").text)
