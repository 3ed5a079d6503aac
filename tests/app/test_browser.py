# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The page in a real browser without a window: Debian's chromium, driven by playwright (`pip install playwright`; its own
browsers are not needed). With DIFFIQA_SCREENSHOTS set to a folder, the pictures of docs/images are written into it.
"""

import csv
import io
import os
import shutil
import socket
import threading
import zipfile
from pathlib import Path

import pytest
from PIL import Image


pytestmark = [pytest.mark.slow, pytest.mark.shared]
playwright = pytest.importorskip("playwright.sync_api")
uvicorn = pytest.importorskip("uvicorn")

from diffiqa_hf import load_method  # noqa: E402
from diffiqa_hf.app.scorers import Scorers  # noqa: E402
from diffiqa_hf.app.server import create_app  # noqa: E402


EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTO = EXAMPLES / "photos" / "astronaut.jpg"
PATIENCE = 240_000  # milliseconds: on a busy machine the first picture waits for torch
WIDTHS = {"wide": 1000, "phone": 400}


@pytest.fixture(scope="module")
def detector(shared_dir) -> str:
    return str(shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx")


@pytest.fixture(scope="module")
def address(detector):
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(Scorers(detector=detector), hosts=("127.0.0.1",))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, args=[[listening]])
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no chromium")
    # What the camera sees: the photograph, at the size of a camera.
    film = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    frame = io.BytesIO()
    picture = Image.new("RGB", (640, 480), (110, 120, 130))
    picture.paste(Image.open(PHOTO).resize((480, 480)), (80, 0))
    picture.save(frame, "JPEG", quality=95, subsampling=0)
    film.write_bytes(frame.getvalue() * 5)
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    arguments = ["--no-sandbox", *camera, f"--use-file-for-fake-video-capture={film}"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS)
def page(request, browser, address):
    context = browser.new_context(viewport={"width": WIDTHS[request.param], "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.asked, page.faults, page.kind = [], [], request.param
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda line: page.faults.append(line.text) if "Content Security" in line.text else None)
    page.goto(address)
    yield page
    assert page.faults == []
    # Of no server but its own, whatever it was used for.
    assert {url for url in page.asked if not url.startswith((address, "data:", "blob:"))} == set()
    context.close()


def look(page, name: str) -> None:
    """Nothing runs past the edge, also on a telephone; and a picture for the documentation."""
    assert page.evaluate("document.scrollingElement.scrollWidth") <= page.viewport_size["width"]
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((element) => {
             const inside = element.closest(".wide");
             return element.getBoundingClientRect().right > innerWidth + 1 && (inside === null || inside === element);
           }).map((element) => element.outerHTML.slice(0, 80))"""
    )
    assert wide == []
    if folder := os.environ.get("DIFFIQA_SCREENSHOTS"):
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        picture.convert("RGB").save(Path(folder) / f"app_{name}_{page.kind}.webp", quality=80, method=6)


def shown_scores(page, place: str) -> list[str]:
    return page.locator(f"{place} .numbers b:first-of-type").all_inner_texts()


def test_a_good_photograph_is_framed_and_scored_and_explained(page, detector):
    page.set_input_files("#one input", PHOTO)
    page.wait_for_selector("#one-result .face")
    output = load_method(detector=detector)(PHOTO)
    assert shown_scores(page, "#one-result") == [f"{output.scores.item():.4f}"]
    text = page.inner_text("#one-result")
    assert f"Better than {output.percentiles.item():.0f} % of the" in text and "to fail at an FMR of 0.001" in text
    page.click("#one-result .why")
    page.wait_for_selector("#one-result .tiles")
    assert page.locator("#one-result figure img").count() == 4
    captions = page.locator("#one-result figcaption").all_inner_texts()
    assert [caption.split()[0] for caption in captions] == ["the", "noisy", "restored", "where"]
    look(page, "one")


def test_a_group_has_a_number_for_each_face_and_another_method_other_scores(page):
    group = Image.new("RGB", (1200, 700), (150, 150, 145))
    names = ("astronaut", "sample6_left", "sample3_smile", "sample6_right", "sample5_dark")
    for number, name in enumerate(names):
        side = 330 - 40 * number
        face = Image.open(EXAMPLES / "faces" / f"{name}.jpg").resize((side, side), Image.Resampling.BICUBIC)
        group.paste(face, (30 + number % 3 * 390, 20 + number // 3 * 340))
    file = io.BytesIO()
    group.save(file, "PNG")
    page.set_input_files("#one input", {"name": "group.png", "mimeType": "image/png", "buffer": file.getvalue()})
    page.wait_for_selector("#one-result .face")
    numbers = page.locator("#one-result .number").all_inner_texts()
    assert numbers == [str(number) for number in range(1, len(names) + 1)]
    before = shown_scores(page, "#one-result")
    page.select_option("#method", "embedding-norm")
    page.wait_for_function(
        "score => ![null, score].includes(document.querySelector('#one-result .numbers b')?.textContent ?? null)",
        arg=before[0],
    )
    assert len(shown_scores(page, "#one-result")) == len(names)
    assert "There is no calibration for this method" in page.inner_text("#one-result")
    look(page, "group")


def test_a_bad_file_is_a_line(page):
    bad = {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture at all"}
    page.set_input_files("#one input", bad)
    page.wait_for_selector("#one-result .bad")
    assert page.inner_text("#one-result") == "not an image, or in a format that Pillow can't read"
    page.set_input_files("#one input", EXAMPLES / "faces" / "astronaut.jpg")
    page.wait_for_selector("#one-result .face")


def test_the_camera_takes_a_picture(page):
    page.click("#camera")
    page.wait_for_function("() => document.querySelector('video').videoWidth > 0")
    page.wait_for_timeout(500)
    page.click("#take")
    page.wait_for_selector("#one-result .face")
    assert len(shown_scores(page, "#one-result")) == 1
    assert page.is_hidden("video") and page.evaluate("document.querySelector('video').srcObject") is None


def test_of_two_photographs_the_better_one_is_named(page):
    page.click("#tab-pair")
    page.set_input_files("#pair input[name=first]", EXAMPLES / "photos" / "sample2.jpg")
    page.set_input_files("#pair input[name=second]", PHOTO)
    page.wait_for_selector("#pair-result .verdict")
    assert "Enrol the second" in page.inner_text(".verdict")
    assert page.inner_text(".side.chosen h2") == "The second: enrol this one"
    look(page, "two")


def test_a_hundred_files_give_a_table_and_a_sheet(page):
    faces = sorted((EXAMPLES / "faces").glob("*.jpg"))
    files = [
        {"name": f"{number:03}_{face.name}", "mimeType": "image/jpeg", "buffer": face.read_bytes()}
        for number, face in enumerate((faces * 5)[:98])
    ]
    files.append({"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"})
    files.append({"name": "empty.jpg", "mimeType": "image/jpeg", "buffer": b""})
    page.click("#tab-many")
    page.set_input_files("#many input", files)
    page.wait_for_selector("#many-result .sheet")
    text = page.inner_text("#many-result")
    assert "98 faces scored, 2 failed" in text and "empty.jpg: empty file" in text
    with page.expect_download() as download:
        page.click("text=Table (CSV)")
    with open(download.value.path(), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [file["name"] for file in files]
    assert sum(bool(row["score"]) for row in rows) == 98
    page.wait_for_function("() => document.querySelector('.sheet').naturalWidth > 500")
    look(page, "many")


def test_an_archive_is_scored_and_a_long_batch_is_cancelled(page):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        for number in range(300):
            written.write(PHOTO, f"people/{number:03}.jpg")
    upload = {"name": "people.zip", "mimeType": "application/zip", "buffer": archive.getvalue()}
    page.click("#tab-many")
    page.set_input_files("#many input", upload)
    page.wait_for_function("() => document.querySelector('#bar').value > 0")
    look(page, "progress")
    page.click("#cancel")
    page.wait_for_selector("#many-result .sheet")
    assert "cancelled after" in page.inner_text("#many-result")
    assert page.is_hidden(".progress")
