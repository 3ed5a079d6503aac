# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The page's server without a browser: aligned crops and the weights of the package, which need no network."""

import csv
import io
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest


pytest.importorskip("starlette")
pytest.importorskip("python_multipart")

from PIL import Image  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from diffiqa_hf import load_method  # noqa: E402
from diffiqa_hf.app.batches import Batches, TooManyBatches  # noqa: E402
from diffiqa_hf.app.scorers import Scorers  # noqa: E402
from diffiqa_hf.app.server import create_app  # noqa: E402
from diffiqa_hf.app.uploads import Limits, receive  # noqa: E402
from diffiqa_hf.cli import main  # noqa: E402
from diffiqa_hf.cli.app import _hosts  # noqa: E402


FACES = Path(__file__).parents[2] / "examples" / "faces"
GOOD, BAD = FACES / "astronaut.jpg", FACES / "astronaut_4_extreme.jpg"
CHOICE = {"method": "diffiqa-r", "kind": "crops"}


@pytest.fixture(scope="module")
def scorers(tmp_path_factory) -> Scorers:
    return Scorers(detector=str(tmp_path_factory.mktemp("none") / "no.onnx"))


@pytest.fixture(scope="module")
def client(scorers):
    with TestClient(create_app(scorers, Limits(megabytes=1, files=30))) as client:
        yield client


def folders() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("diffiqa_app_*")}


def ended(client: TestClient, token: str) -> dict:
    for _ in range(600):
        state = client.get(f"/batches/{token}").json()
        if "html" in state:
            return state
        time.sleep(0.05)
    raise AssertionError("the batch does not end")


def test_the_page_offers_the_methods_whose_weights_are_at_hand(client):
    page = client.get("/").text
    offered = re.findall(r'<option value="([^"]+)">', page)
    assert offered[0] == "diffiqa-r" and {"diffiqa", "faceqan", "embedding-norm"} < set(offered)
    assert not {"lightqnet", "cr-fiqa", "froq"} & set(offered)
    assert "There is no face detector" in page and re.search(r'value="photographs" disabled', page)
    with_weights = Scorers({"lightqnet": "dm100.pb"})
    assert "lightqnet" in [card.name for card in with_weights.cards]
    with pytest.raises(ValueError, match="takes no weights"):
        Scorers({"embedding-norm": "x"})


def test_nothing_of_the_page_is_asked_of_another_server(client):
    page = client.get("/")
    texts = [page.text, client.get("/static/app.js").text, client.get("/static/app.css").text]
    assert not [found for text in texts for found in re.findall(r"(?:https?:)?//[a-z][\w.-]+", text)]
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "http" not in policy and "*" not in policy
    assert page.headers["cache-control"] == "no-store"


def test_a_face_has_the_score_of_the_method(client):
    method = load_method(align=False)
    answer = client.post("/photograph", data=CHOICE, files={"photograph": ("a.jpg", GOOD.read_bytes())})
    assert answer.status_code == 200
    output = method(GOOD)
    assert f"score <b>{output.scores.item():.4f}</b>" in answer.text
    assert f"percentile <b>{round(output.percentiles.item())}</b>" in answer.text
    assert "faces it was measured with" in answer.text and answer.text.count("<article") == 1


@pytest.mark.slow
def test_why_shows_what_the_pipeline_makes_of_the_face(client):
    answer = client.post("/photograph", data=CHOICE, files={"photograph": ("a.jpg", GOOD.read_bytes())})
    crop = re.search(r'class="crop" src="([^"]+)"', answer.text)[1]
    why = client.post("/why", data={"crop": crop})
    assert why.status_code == 200 and why.text.count("<figure>") == 4
    expected = load_method("diffiqa", align=False)(GOOD)
    assert f"Their mean, {expected.scores.item():.4f}, is its score" in " ".join(why.text.split())
    for value in expected.terms.values():
        assert f"{value.item():.4f}" in why.text


def test_why_takes_faces_of_the_page_alone(client):
    for crop in ("", "data:image/png;base64,!!!!", "https://example.org/a.png", "/etc/passwd"):
        answer = client.post("/why", data={"crop": crop})
        assert (answer.status_code, answer.text) == (422, "this is no face of this page")
    assert client.post("/why").status_code == 422


def test_two_are_compared(client):
    files = {"first": ("a.jpg", BAD.read_bytes()), "second": ("b.jpg", GOOD.read_bytes())}
    answer = client.post("/two", data=CHOICE, files=files).text
    assert "Enrol the second" in answer and "The second: enrol this one" in answer
    files["second"] = ("b.jpg", b"no picture")
    answer = client.post("/two", data=CHOICE, files=files).text
    assert "not an image" in answer


@pytest.mark.parametrize(
    "content, reason",
    [(b"", "empty file"), (b"no picture", "not an image"), (GOOD.read_bytes()[:500], "Truncated|damaged")],
)
def test_a_bad_file_is_a_line(client, content, reason):
    answer = client.post("/photograph", data=CHOICE, files={"photograph": ("a.jpg", content)})
    assert answer.status_code == 422 and "\n" not in answer.text
    assert re.search(reason, answer.text)


def test_what_is_not_offered_is_refused(client):
    files = {"photograph": ("a.jpg", GOOD.read_bytes())}
    for choice, reason in (
        ({"method": "froq", "kind": "crops"}, "not at hand"),
        ({"method": "diffiqa-r", "kind": "x"}, "the kind is one of"),
        ({"method": "diffiqa-r", "kind": "photographs"}, "no face can be looked for"),
        ({}, "not at hand"),
    ):
        answer = client.post("/photograph", data=choice, files=files)
        assert (answer.status_code, reason in answer.text) == (422, True), answer.text
    assert client.post("/photograph", data=CHOICE).status_code == 422
    assert client.get("/batches/unknown").status_code == 404


def test_a_method_that_can_not_be_loaded_is_a_line(tmp_path):
    (tmp_path / "dm100.pb").write_bytes(b"no network")
    with TestClient(create_app(Scorers({"lightqnet": str(tmp_path / "dm100.pb")}))) as client:
        files = {"photograph": ("a.jpg", GOOD.read_bytes())}
        choice = {"method": "lightqnet", "kind": "crops"}
        answer = client.post("/photograph", data=choice, files=files)
        assert answer.status_code == 422 and answer.text.startswith("lightqnet can't be loaded: ")
        files = [("photographs", ("a.jpg", GOOD.read_bytes()))]
        state = ended(client, client.post("/batches", data=choice, files=files).json()["token"])
        assert state["state"] == "failed" and "lightqnet can&#39;t be loaded" in state["html"]
    assert not folders()


def test_too_much_is_refused(client):
    large = {"photograph": ("a.jpg", bytes(2 * 1024 * 1024))}
    assert client.post("/photograph", data=CHOICE, files=large).status_code == 413
    many = [("photographs", (f"{number}.jpg", b"x")) for number in range(31)]
    answer = client.post("/batches", data=CHOICE, files=many)
    assert answer.status_code == 422 and "more than 30 photographs" in answer.text
    assert client.post("/batches", data=CHOICE, files=many * 3).status_code == 400
    assert not folders()


def test_another_site_and_another_name_are_refused(scorers):
    with TestClient(create_app(scorers, hosts=_hosts("127.0.0.1"))) as client:
        assert client.get("/", headers={"host": "evil.example"}).status_code == 400
        for host in ("127.0.0.1:7860", "localhost", "[::1]:7860"):
            assert client.get("/", headers={"host": host}).status_code == 200
        headers = {"host": "localhost", "sec-fetch-site": "cross-site"}
        files = {"photograph": ("a.jpg", GOOD.read_bytes())}
        assert client.post("/photograph", data=CHOICE, files=files, headers=headers).status_code == 403
    assert _hosts("0.0.0.0") == ("*",)


def test_a_batch_gives_a_table_and_a_sheet_and_its_photographs_are_deleted(client, tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        for path in sorted(FACES.glob("astronaut*.jpg")):
            written.write(path, f"people/{path.name}")
        written.writestr("people/.DS_Store", b"x")
        written.writestr("people/broken.jpg", b"no picture")
    files = [("photographs", ("people.zip", archive.getvalue())), ("photographs", ("<b>.txt", b"text"))]
    started = client.post("/batches", data=CHOICE, files=files).json()
    assert started["total"] == 7
    state = ended(client, started["token"])
    assert (state["state"], state["done"]) == ("done", 7)
    assert not folders()
    assert "5 faces scored, 2 failed" in state["html"] and "hidden or a tool" in state["html"]
    assert "people/broken.jpg: not an image" in state["html"] and "<b>.txt" not in state["html"]
    rows = list(csv.DictReader(io.StringIO(client.get(f"/batches/{started['token']}/scores.csv").text)))
    method = load_method(align=False)
    scored = {row["file"]: float(row["score"]) for row in rows if not row["error"]}
    assert len(scored) == 5
    for name, score in scored.items():
        assert score == pytest.approx(method(FACES / Path(name).name).scores.item(), abs=1e-5)
    sheet = client.get(f"/batches/{started['token']}/sheet.jpg")
    assert Image.open(io.BytesIO(sheet.content)).format == "JPEG"
    # `diffiqa best` takes the table.
    (tmp_path / "scores.csv").write_text(client.get(f"/batches/{started['token']}/scores.csv").text)
    args = ["best", "--scores", str(tmp_path / "scores.csv"), "--group-by", "folder", "--list"]
    assert main(args) == 1
    assert client.delete(f"/batches/{started['token']}").status_code == 204
    assert client.get(f"/batches/{started['token']}").status_code == 404


def test_a_batch_that_is_cancelled_keeps_what_it_had(scorers, tmp_path):
    batches = Batches(scorers)
    first, second = (_started(batches, tmp_path / name) for name in ("a", "b"))
    batches.cancel(first.token)
    batches.cancel(second.token)
    batches.close()
    for batch in (first, second):
        assert batch.state == "cancelled" and batch.done < batch.total
    assert second.rows == [] and second.sheet == b""
    assert not list(tmp_path.rglob("*.jpg"))


def test_results_are_dropped_after_a_while_and_no_more_are_kept_than_allowed(scorers, tmp_path):
    batches = Batches(scorers, kept_seconds=0.2, most=1)
    batch = _started(batches, tmp_path / "a")
    with pytest.raises(TooManyBatches):
        for number in range(3):  # of which the first may have ended meanwhile, and then is dropped for the second
            _started(batches, tmp_path / f"b{number}")
    for _ in range(600):
        if batches.get(batch.token) is None and not batches._all:
            break
        time.sleep(0.05)
    assert batches._all == {}
    batches.close()


def _started(batches: Batches, folder: Path):
    folder.mkdir()
    temporary = tempfile.TemporaryDirectory(dir=folder)
    contents = [(path.name, io.BytesIO(path.read_bytes())) for path in sorted(FACES.glob("*.jpg")) * 4]
    received = receive(contents, Path(temporary.name), Limits())
    return batches.start(received, temporary, "diffiqa-r", "crops")


def test_requests_take_turns_in_threads(client):
    answers = []

    def ask() -> None:
        files = {"photograph": ("a.jpg", GOOD.read_bytes())}
        answers.append(client.post("/photograph", data=CHOICE, files=files).text)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and len(set(answers)) == 1


@pytest.mark.parametrize(
    "args, reason",
    [
        (["--weights", "lightqnet"], "METHOD=PATH"),
        (["--weights", "lightqnet=no/such/file.pb"], "no such file"),
        (["--weights", "nobody=."], "unknown method"),
        (["--weights", "lightqnet=."], "--weights"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
    ],
)
def test_what_can_not_be_served_is_one_line(args, reason, capsys):
    assert main(["app", *args]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert reason in lines[-1]


@pytest.mark.slow
def test_the_command_opens_the_page_and_ends_by_ctrl_c(tmp_path):
    command = [sys.executable, "-m", "diffiqa_hf", "app", "--port", "0", "--detector", str(tmp_path / "no.onnx")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
        for _ in range(100):  # it listens already, and answers when it has begun
            try:
                page = urllib.request.urlopen(address, timeout=60).read().decode()
                break
            except OSError:
                time.sleep(0.1)
        assert "Face image quality" in page
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
        assert process.stderr.read() == "diffiqa: Ctrl-C ends it\n"
