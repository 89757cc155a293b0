"""The studio in a real browser: clicks as a user's, and screenshots to look at.

    python3 crates/jishi-serve/tests/studio_browser.py target/debug/jishi [FOLDER]

needs `pip install playwright` and a Chromium (`CHROMIUM=/usr/bin/chromium`). Trains small models on built-in data and on
pictures and text that it makes itself, in FOLDER (default: a new one), and leaves the screenshots in FOLDER/shots.
"""

import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

JISHI = Path(sys.argv[1]).resolve()
PLACE = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="studio-")).resolve()
SHOTS = PLACE / "shots"
SIDE = 64
COLOURS = {"red": (214, 48, 42), "blue": (38, 76, 214), "green": (34, 160, 84)}
RUNS = {
    "house-prices-linear": ["house-prices-linear"],
    "house-prices": ["house-prices", "--set", "train.epochs=40"],
    "breast-cancer": ["breast-cancer"],
    "digits": ["digits", "--set", "data.split={validation=0.1, test=0.2}", "--set", "train.epochs=10"],
    "digits-folds": ["digits", "--run", "digits-folds", "--set", "train.epochs=4"],
    "made-digits": ["made-digits.toml"],
    "boxes": ["boxes.toml"],
    "guide": ["guide.toml"],
    "messages": ["messages.toml"],
}
RECIPES = {
    "my-houses": """name = "my-houses"
description = "Prices of houses, with a network that learns slowly."
task = "regression"

[data]
source = "builtin:ames"
target = "Sale_Price"
scale = { target = "log" }

[model]
family = "mlp"
hidden = [192, 96]

[train]
optimizer = { name = "adamw", learning_rate = 5e-4 }
epochs = 60
batch = 16
log_every = 5

[evaluate]
bootstrap = 50
""",
    "made-digits": """name = "made-digits"
description = "Make handwritten digits of 8 x 8 pixels."
task = "image-generation"

[data]
source = "builtin:digits"
target = "digit"
split = { validation = 0.1 }

[image]
pixels = { columns = "p*", max = 16 }
channels = "gray"

[model]
family = "dcgan"
latent = 16
width = 16

[train]
optimizer = { name = "adam", learning_rate = 1e-3, betas = [0.5, 0.999] }
ema = 0.99
epochs = 12
batch = 64
""",
    "boxes": """name = "boxes"
description = "Find coloured boxes on a grey ground."
task = "detection"

[data]
source = "scenes"
split = { validation = 0.1, test = 0.2 }

[image]
size = 64

[model]
family = "yolo"
width = 16

[train]
optimizer = { name = "adamw", learning_rate = 3e-3 }
epochs = 30
batch = 8
""",
    "guide": """name = "guide"
description = "Write in the manner of this program's guide, letter by letter."
task = "causal-lm"

[data]
source = "guide/*.txt"
split = { validation = 0.1, test = 0.1 }

[tokenizer]
kind = "char"

[model]
family = "gpt2"
layers = 2
heads = 4
width = 96
context = 64

[train]
optimizer = { name = "adamw", learning_rate = 3e-3 }
steps = 700
batch = 16
validate_every = 175

[generate]
prompts = ["A model ", "The data"]
max_tokens = 120
""",
    "messages": """name = "messages"
description = "Tell where a message belongs."
task = "text-classification"

[data]
source = "messages.csv"
target = "label"

[tokenizer]
kind = "bpe"
vocabulary = 300

[model]
family = "bert"
layers = 1
heads = 2
width = 32
context = 32

[train]
optimizer = { name = "adamw", learning_rate = 3e-3 }
epochs = 60
batch = 16
""",
}


def png(width, height, pixels):
    """A PNG file of RGB rows."""
    rows = b"".join(b"\0" + bytes(pixels[y * width * 3:(y + 1) * width * 3]) for y in range(height))

    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def scene(number, side=SIDE):
    """Boxes on a slope, and where they are."""
    scale = side // SIDE
    boxes = []
    for i in range(1 + number % 3):
        width, height = (14 + (number * 7 + i * 5) % 12), (14 + (number * 11 + i * 3) % 12)
        left, top = [((number * 13) % 12, (number * 17) % 20), (36, (number * 23) % 12), (20 + number % 12, 42)][i]
        name = list(COLOURS)[(number + i) % 3]
        boxes.append((name, [v * scale for v in (left, top, min(left + width, SIDE), min(top + height, SIDE))]))
    pixels = bytearray()
    for y in range(side):
        for x in range(side):
            inside = [n for n, (l, t, r, b) in boxes if l <= x < r and t <= y < b]
            pixels += bytes(COLOURS[inside[0]]) if inside else bytes([150 + (x + y) // (4 * scale) % 60] * 3)
    return png(side, side, pixels), boxes


def prepare():
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name, text in RECIPES.items():
        (PLACE / f"{name}.toml").write_text(text)
    (PLACE / "scenes").mkdir(exist_ok=True)
    names = list(COLOURS)
    (PLACE / "scenes/classes.txt").write_text("\n".join(names))
    for number in range(96):
        picture, boxes = scene(number)
        (PLACE / f"scenes/{number:03}.png").write_bytes(picture)
        lines = [(names.index(n), (l + r) / 2, (t + b) / 2, r - l, b - t) for n, (l, t, r, b) in boxes]
        text = "".join(f"{c} " + " ".join(str(v / SIDE) for v in rest) + "\n" for c, *rest in lines)
        (PLACE / f"scenes/{number:03}.txt").write_text(text)
    (PLACE / "scene.png").write_bytes(scene(1001, 4 * SIDE)[0])
    (PLACE / "guide").mkdir(exist_ok=True)
    for page in (Path(__file__).parents[3] / "docs/guide").glob("*.md"):
        (PLACE / f"guide/{page.stem}.txt").write_text(page.read_text())
    kinds = {
        "sport": ("the goal was late", "our team won the match", "the runner lost the race", "a fine game of tennis"),
        "music": ("the choir sang softly", "a song for two guitars", "the drums were loud", "she plays the violin"),
        "office": ("the report is due today", "a meeting at nine", "send the invoice again", "the printer is out of paper"),
    }
    rows = [f"{text} {more},{kind}" for kind, texts in kinds.items() for text in texts
            for more in ("", "today", "again", "I think", "as they said", "of course", "once more", "in town")]
    (PLACE / "messages.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    digits = subprocess.run([JISHI, "data", "get", "digits"], capture_output=True, text=True, check=True).stdout
    head, *lines = digits.splitlines()
    columns = head.split(",")
    row = dict(zip(columns, lines[13].split(",")))
    values = [float(row[c]) for c in columns if re.fullmatch(r"p\w*\d+", c)]
    pixels = bytearray()
    for y in range(64):
        for x in range(64):
            pixels += bytes([int(values[y // 8 * 8 + x // 8] / 16 * 255)] * 3)
    (PLACE / "digit.png").write_bytes(png(64, 64, pixels))
    for name, words in RUNS.items():
        if not (PLACE / "runs" / name / "manifest.json").exists():
            print("training", name, flush=True)
            done = subprocess.run([JISHI, "train", *words], cwd=PLACE, capture_output=True, text=True)
            assert done.returncode == 0, f"{name}: {done.stderr[-2000:]}"


def studio():
    process = subprocess.Popen(
        [JISHI, "studio", "--json", "--listen", "127.0.0.1:0"], cwd=PLACE, stdout=subprocess.PIPE, text=True)
    return process, json.loads(process.stdout.readline())["address"]


class Looker:
    """A page that must log no error and ask nobody else."""

    def __init__(self, browser, address, **options):
        self.address = address
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, "locale": "en-GB", **options})
        self.page = self.context.new_page()
        self.errors = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("request", lambda r: self.outside(r.url))

    def outside(self, url):
        if not url.startswith((self.address, "blob:")):
            self.errors.append(f"asked {url}")

    def go(self, path):
        self.page.goto(self.address + path)

    def shot(self, name, full=False):
        self.page.wait_for_load_state("networkidle") if not self.page.locator("[data-live]").count() else self.page.wait_for_timeout(400)
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide"
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=full)
        print("shot", name, flush=True)

    def close(self):
        assert not self.errors, self.errors
        self.context.close()


def until(page, expression, seconds=60):
    """Waits for an expression; the page's policy lets nobody evaluate text inside of it."""
    for _ in range(seconds * 10):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never: {expression}")


def started_paused_resumed(look):
    page = look.page
    look.go("/")
    page.get_by_role("link", name="Start a run").first.click()
    page.get_by_role("link", name="my-houses.toml").click()
    expect(page.get_by_label("Epochs")).to_have_value("60")
    page.get_by_label("More settings").fill("train.epoch=3\nmodel.hidden=[]")
    page.get_by_role("button", name="Check and start").click()
    expect(page.get_by_role("alert")).to_contain_text("Problems found")
    look.shot("start-problems")
    page.get_by_label("More settings").fill("")
    page.get_by_role("button", name="Check only").click()
    expect(page.get_by_text("No problem found")).to_be_visible(timeout=60_000)
    look.shot("start-checked")
    page.get_by_role("button", name="Check and start").click()
    page.wait_for_url("**/runs/my-houses*", timeout=60_000)
    badge = page.locator("#live-state .badge")
    expect(badge).to_have_attribute("data-state", "running", timeout=60_000)
    line = page.locator("[data-chart] path.line").first
    expect(line).to_be_attached(timeout=60_000)
    before = len(line.get_attribute("d"))
    until(page, f"document.querySelector('[data-chart] path.line').getAttribute('d').length > {before} + 60")
    look.shot("running")
    page.reload()
    expect(badge).to_have_attribute("data-state", "running")
    page.get_by_role("link", name="Pause").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("exactly where it was")
    look.shot("pause-dialog")
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    page.get_by_role("link", name="Pause").click()
    dialog.get_by_role("button", name="Pause").click()
    expect(badge).to_have_attribute("data-state", "paused", timeout=60_000)
    look.shot("paused")
    page.get_by_role("link", name="Resume").click()
    dialog.get_by_role("button", name="Resume").click()
    expect(badge).to_have_attribute("data-state", re.compile("running|finished"), timeout=60_000)
    expect(badge).to_have_attribute("data-state", "finished", timeout=300_000)
    expect(page.locator("#say")).to_contain_text("Finished")
    expect(page.get_by_role("link", name="Try it")).to_be_visible()


def compared(look):
    page = look.page
    look.go("/")
    button = page.get_by_role("button", name="Compare the chosen")
    expect(button).to_be_disabled()
    for name in ("house-prices", "house-prices-linear", "my-houses"):
        page.get_by_role("checkbox", name=f"Choose {name}", exact=True).check()
    expect(button).to_be_enabled()
    page.wait_for_timeout(2500)
    expect(page.get_by_role("checkbox", name="Choose my-houses")).to_be_checked()
    button.click()
    expect(page.get_by_role("heading", name="Runs side by side")).to_be_visible()
    expect(page.get_by_text("model.hidden")).to_be_visible()
    plot = page.locator(".plot").first
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 80)
    expect(page.locator(".tip")).to_be_visible()
    look.shot("compare")
    look.go("/?q=house&sort=metric")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_label("Status").select_option("finished")
    page.wait_for_url("**state=finished*")


def tried(look):
    page = look.page
    look.go("/runs/house-prices")
    page.get_by_role("link", name="Try it").click()
    page.get_by_role("button", name="Ask").click()
    first = page.locator(".told").inner_text(timeout=60_000)
    page.get_by_label("Gr_Liv_Area").fill("4000")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".told")).not_to_have_text(first)
    expect(page.get_by_label("Gr_Liv_Area")).to_have_value("4000")
    look.shot("try-row")
    look.go("/runs/breast-cancer/try")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".shares li")).to_have_count(2, timeout=60_000)
    look.go("/runs/messages/try")
    page.get_by_label("Text").fill("the team sang a song at the meeting")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".shares li")).to_have_count(3, timeout=60_000)
    look.shot("try-text")
    look.go("/runs/guide/try")
    page.get_by_label("Prompt").fill("The model ")
    page.get_by_role("button", name="Write").click()
    until(page, "document.querySelector('[data-written]').textContent.length > 60")
    expect(page.get_by_role("button", name="Write")).to_be_enabled(timeout=60_000)
    look.shot("try-writing")
    page.get_by_label("Temperature").fill("99")
    page.get_by_role("button", name="Write").click()
    expect(page.get_by_role("alert")).to_contain_text("temperature")
    # The browser itself logs the refusal.
    look.errors.clear()
    look.go("/runs/digits/try")
    page.locator("input[type=file]").set_input_files(PLACE / "digit.png")
    expect(page.locator(".told")).to_have_text("3", timeout=60_000)
    look.shot("try-picture")
    look.go("/runs/boxes/try")
    page.locator("input[type=file]").set_input_files(PLACE / "scene.png")
    expect(page.locator(".seen rect").first).to_be_attached(timeout=60_000)
    look.shot("try-boxes")
    look.go("/runs/made-digits/try")
    page.get_by_role("button", name="Make").click()
    until(page, "(document.querySelector('.sample img') || {}).naturalWidth > 8")
    look.shot("try-grid")


def seen_everywhere(browser, address):
    for scheme in ("light", "dark"):
        for lang in ("en", "zh"):
            look = Looker(browser, address, color_scheme=scheme)
            look.go(f"/?lang={lang}")
            look.shot(f"list-{lang}-{scheme}")
            look.go("/runs/house-prices")
            look.shot(f"run-{lang}-{scheme}")
            if scheme == "light" or lang == "en":
                look.shot(f"run-{lang}-{scheme}-full", full=True)
            look.close()
            phone = Looker(browser, address, color_scheme=scheme, viewport={"width": 390, "height": 844},
                           device_scale_factor=2, is_mobile=True, has_touch=True)
            for path, name in (("/", "list"), ("/runs/house-prices", "run"), ("/start?recipe=builtin%3Adigits", "start"),
                               ("/compare?run=house-prices&run=house-prices-linear", "compare"), ("/runs/digits/try", "try")):
                phone.go(f"{path}{'&' if '?' in path else '?'}lang={lang}")
                phone.shot(f"phone-{name}-{lang}-{scheme}")
            phone.close()
    look = Looker(browser, address)
    for name in ("made-digits", "guide", "digits-folds", "boxes"):
        look.go(f"/runs/{name}")
        look.shot(f"run-{name}", full=True)
    look.page.keyboard.press("Tab")
    expect(look.page.get_by_role("link", name="Skip to content")).to_be_focused()
    look.go("/")
    look.page.get_by_role("link", name="中文").click()
    expect(look.page.get_by_role("heading", name="训练记录")).to_be_visible()
    look.go("/start")
    expect(look.page.get_by_role("heading", name="开始训练")).to_be_visible()
    look.close()
    # Without the script pages still say what there is, and forms still work.
    plain = Looker(browser, address, java_script_enabled=False)
    plain.go("/runs/house-prices")
    expect(plain.page.locator("svg.plot").first).to_be_visible()
    plain.go("/runs/house-prices/try")
    plain.page.get_by_role("button", name="Ask").click()
    expect(plain.page.locator(".told")).to_be_visible(timeout=60_000)
    plain.close()


def main():
    prepare()
    process, address = studio()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"])
            look = Looker(browser, address)
            if not (PLACE / "runs/my-houses").exists():
                started_paused_resumed(look)
            compared(look)
            tried(look)
            look.close()
            seen_everywhere(browser, address)
            empty = Looker(browser, address)
            # A run that vanishes while it is shown.
            empty.go("/runs/breast-cancer")
            (PLACE / "runs/breast-cancer").rename(PLACE / "gone")
            expect(empty.page.get_by_role("alert")).to_contain_text("gone", timeout=20_000)
            empty.shot("gone")
            (PLACE / "gone").rename(PLACE / "runs/breast-cancer")
            # The browser itself logs that the run is not there.
            empty.errors.clear()
            empty.close()
            browser.close()
    finally:
        process.terminate()
        process.wait()
    print("fine;", SHOTS)


if __name__ == "__main__":
    main()
