"""A server's answers: what `segment` and `detect` say, in each form; what it refuses, and with which words."""

from __future__ import annotations

import io
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fcn_port
from converters import CaffeNet, NetError, parse_prototxt
from fcn_port.nets.net import as_net
from parity_tests.detection.nets import ssd
from parity_tests.predict.test_run_lengths import decoded
from parity_tests.serving.nets import (
    NAMES,
    largest_channel,
    of_four_channels,
    of_values,
    of_whole_images,
    png_of,
    stripes,
)

pytest.importorskip("starlette", reason="the extra `serve`")
pytest.importorskip("prometheus_client", reason="the extra `serve`")
pytest.importorskip("python_multipart", reason="the extra `serve`")
pytest.importorskip("uvicorn", reason="the extra `serve`")
testclient = pytest.importorskip("starlette.testclient", reason="httpx2, which starlette's client needs")

from fcn_port.serving import ServerLimits, answers, make_app  # noqa: E402
from fcn_port.serving.app import Service  # noqa: E402
from fcn_port.serving.guard import Guard  # noqa: E402
from fcn_port.serving.seeing import look_through, served_net  # noqa: E402

IMAGE = stripes()
BODY = png_of(IMAGE)
LIMITS = ServerLimits(most_bytes=4000, most_pixels=10_000, seconds=30, waiting=4)


def client_of(net: Any = None, **settings: Any) -> Any:
    app = make_app(
        largest_channel() if net is None else net, name="a<b>", **{"limits": LIMITS, "threads": 1} | settings
    )
    return testclient.TestClient(app, base_url="http://localhost:8000")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with client_of() as made:
        yield made


def post(client: Any, body: Any = BODY, query: str = "", **more: Any) -> Any:
    return client.post(f"/predict{query}", content=body, **more)


# What is seen


def test_json_has_labels_names_and_shares(client: Any) -> None:
    answer = post(client)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    found = answer.json()
    (output,) = found["outputs"]
    seen = [(each["label"], each["name"], each["share"]) for each in output["classes"]]
    assert (found["height"], found["width"], found["net"]) == (12, 20, "a<b>")
    assert seen == [(0, NAMES[0], 110 / 240), (2, NAMES[2], 110 / 240), (1, NAMES[1], 20 / 240)]
    assert [each["drawn"] for each in output["classes"]] == [False, True, True]


def test_pictures_are_those_that_predict_writes(client: Any) -> None:
    seen = fcn_port.segment(largest_channel(), IMAGE)
    labels = Image.open(io.BytesIO(post(client, query="?format=labels").content))
    assert labels.mode == "P" and np.array_equal(np.asarray(labels), seen.labels)
    assert np.array_equal(np.unique(seen.labels), [0, 1, 2])
    overlay = Image.open(io.BytesIO(post(client, query="?format=overlay").content))
    assert np.array_equal(np.asarray(overlay), np.asarray(seen.picture()))


def test_a_net_of_four_channels_gets_all_that_an_image_stores() -> None:
    """RGBA of a PNG, and an .npy: the fourth channel decides where it is the largest. Only three were read before."""
    image = np.random.default_rng(4).integers(0, 256, (9, 11, 4), np.uint8)
    picture, array = io.BytesIO(), io.BytesIO()
    Image.fromarray(image, "RGBA").save(picture, "PNG")
    np.save(array, image)
    with client_of(of_four_channels()) as client:
        for body in (picture.getvalue(), array.getvalue()):
            answer = post(client, body, "?format=labels")
            labels = np.asarray(Image.open(io.BytesIO(answer.content)))
            assert np.array_equal(labels, image.argmax(2)) and (labels == 3).any()
        assert np.asarray(Image.open(io.BytesIO(post(client, picture.getvalue(), "?format=overlay").content))).ndim == 3
        assert post(client, BODY).status_code == 422 and "4" in post(client, BODY).text
        for wrong in (array.getvalue()[:-1], array.getvalue()[:40], b"\x93NUMPY", array.getvalue() + b"x"):
            assert post(client, wrong).status_code == 400
        array = io.BytesIO()
        np.save(array, image.astype(np.float32))
        assert "expected (h, w, channels) uint8" in post(client, array.getvalue()).text


@pytest.mark.parametrize("given, image", [("?format=coco", 0), ("?format=coco&image_id=42", 42),
                                          ("?format=coco&image_id=a%2Fb", "a/b")])  # fmt: skip
def test_coco_s_run_lengths_are_the_labels(client: Any, given: str, image: object) -> None:
    labels = np.full(IMAGE.shape[:2], 255)
    for record in post(client, query=given).json():
        assert record["image_id"] == image
        labels[decoded(record["segmentation"]["counts"], IMAGE.shape[:2])] = record["category_id"]
    assert np.array_equal(labels, fcn_port.segment(largest_channel(), IMAGE).labels)


def test_a_form_and_a_body_are_one(client: Any) -> None:
    form = client.post("/predict?format=labels", files={"image": ("../../etc/passwd", png_of(IMAGE))})
    assert form.status_code == 200 and form.content == post(client, query="?format=labels").content


@pytest.mark.parametrize("name", ["", "; filename*=UTF-8''%C3%A9.png"])
def test_the_field_of_a_form_needs_no_files_name(client: Any, name: str) -> None:
    part = b'--a\r\nContent-Disposition: form-data; name="image"' + name.encode()
    form = part + b"\r\n\r\n" + BODY + b"\r\n--a--\r\n"
    for charset in ("", "; charset=utf-8"):
        headers = {"content-type": f"multipart/form-data; boundary=a{charset}"}
        answer = client.post("/predict?format=labels", content=form, headers=headers)
        assert answer.status_code == 200 and answer.content == post(client, query="?format=labels").content


@pytest.mark.parametrize("quick", [False, True])
def test_objects_have_boxes(quick: bool) -> None:
    """Also of a net run by `fast`, as `fcn-port serve` runs it."""
    image = np.full((32, 32, 3), 255, np.uint8)
    image[:8, 8:16] = (255, 0, 0)
    body = png_of(image)
    net = fcn_port.fast(as_net(ssd())) if quick else as_net(ssd())
    with client_of(net) as client:
        (record,) = post(client, body).json()["detections"]
        expected = fcn_port.detect(net, image, threshold=0.3)[0]
        assert record == expected.to_json() and record["name"] == "red thing"
        (coco,) = post(client, body, "?format=coco&image_id=9").json()
        assert coco["image_id"] == 9 and coco["bbox"] == pytest.approx([8, 0, 8, 8], abs=1e-3)
        assert post(client, body, "?format=labels").status_code == 400
        page = post(client, body, "?format=page")
        assert page.status_code == 200 and "red thing" in page.text and "1 objects" in page.text


def test_images_have_their_best_classes() -> None:
    net, blue = of_whole_images(), np.full((10, 14, 3), (0, 0, 250), np.uint8)
    with client_of(net) as client:
        said = post(client, png_of(blue)).json()
        expected = fcn_port.classify(net, blue)
        assert [each["name"] for each in said["classes"]] == [NAMES[2], *(each.name for each in expected.found[1:])]
        assert [each["score"] for each in said["classes"]] == [each.score for each in expected.found]
        assert (said["height"], said["width"], said["probabilities"]) == (10, 14, True)
        for form in ("labels", "overlay", "coco"):
            answer = post(client, BODY, f"?format={form}")
            assert answer.status_code == 400 and "names images" in answer.json()["error"] and "json" in answer.text
        page = post(client, png_of(blue), "?format=page").text
        assert "names images" in page and "<script>alert" not in page and expected.shown(expected.found[0]) in page
        assert client.get("/net").json()["finds"] == "classes"


def test_pixels_have_their_values() -> None:
    with client_of(of_values()) as client:
        said = post(client).json()
        assert said["outputs"] == [{"output": "", "channels": 1, "least": -100.0, "largest": 100.0}]
        picture = np.asarray(Image.open(io.BytesIO(post(client, BODY, "?format=overlay").content)))
        assert picture.shape == IMAGE.shape[:2] and set(picture[:, :5].ravel()) == {255, 0}
        for form in ("labels", "coco"):
            assert "map of values" in post(client, BODY, f"?format={form}").json()["error"]
        page = post(client, BODY, "?format=page").text
        assert "gives each pixel a value" in page and "Values from -100 to 100" in page
        assert client.get("/net").json()["finds"] == "values"


def test_edges_are_values_and_labels() -> None:
    with client_of(of_values(sigmoid=True)) as client:
        assert [each["label"] for each in post(client).json()["outputs"][0]["classes"]] == [0, 1]
        assert post(client, BODY, "?format=labels").status_code == 200
        assert ">Values</label>" in post(client, BODY, "?format=page").text


@pytest.mark.parametrize("make", [largest_channel, of_whole_images, of_values, lambda: as_net(ssd())])
def test_a_batch_says_of_each_image_what_it_says_alone(make: Any) -> None:
    images = [np.roll(IMAGE, shift, axis=2) // (1 + shift) for shift in range(3)]
    look = look_through(make())
    together, alone = look(images), [look([each])[0] for each in images]
    assert [answers.to_json(each) for each in together] == [answers.to_json(each) for each in alone]
    assert len({str(answers.to_json(each)) for each in alone}) > 1


def test_a_net_that_sees_nothing_is_refused_before_anybody_asks() -> None:
    text = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } } }'
    loss = 'layer { name: "sum" type: "Reduction" bottom: "data" top: "sum" reduction_param { axis: 0 } }'
    net = CaffeNet(parse_prototxt(text + loss)).eval()
    with pytest.raises(ValueError, match="how its input is made"):
        make_app(as_net(net), name="x", threads=1)
    net.card = largest_channel().card  # type: ignore[attr-defined]
    with pytest.raises(NetError, match=r"its output blob is \(\) for 1 images"):
        make_app(as_net(net), name="x", threads=1)


# What is refused


def tall_png(width: int, height: int) -> bytes:
    """The head of a picture of that size, with no pixels in it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0\0\0\1IDATx"


FORM = b'--a\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + BODY + b"\r\n--a--\r\n"
IS_FORM = {"content-type": "multipart/form-data; boundary=a"}
BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing": ({"body": b""}, 400, "no image"),
    "no image": ({"body": b"<svg onload=alert(1)>"}, 400, "not an image that can be read"),
    "a cut image": ({"body": png_of(IMAGE)[:60]}, 400, "not an image that can be read"),
    "too many bytes": ({"body": b"x" * 4001}, 413, "more than 4,000 bytes"),
    "too many bytes in pieces": ({"body": iter([b"x" * 3000] * 2)}, 413, "more than 4,000 bytes"),
    "a length beyond all numbers": ({"headers": {"content-length": "9" * 4000}}, 413, "more than"),
    "too many pixels": ({"body": tall_png(10_001, 1)}, 413, "10001 x 1 pixels; at most 10,000"),
    "a bomb": ({"body": tall_png(2**31 - 1, 2**31 - 1)}, 4, ""),
    "an unknown format": ({"query": "?format=%1b[31m"}, 400, "there is no format"),
    "an unknown parameter": ({"query": "?path=/etc/passwd"}, 400, "there is no parameter 'path'"),
    "an unknown output": ({"query": "?format=coco&output=x"}, 400, "no output 'x'; it has 'score'"),
    "a long id": ({"query": "?format=coco&image_id=" + "9" * 200}, 400, "longer than 128"),
    "a form without a boundary": ({"headers": {"content-type": "multipart/form-data"}}, 400, "not a form"),
    "a form that was cut short": ({"body": FORM[:-12], "headers": IS_FORM}, 400, "it was cut short"),
    "a form without its end": ({"body": FORM[: -len("--a--\r\n")], "headers": IS_FORM}, 400, "it was cut short"),
    "a form of another field": ({"body": FORM.replace(b"image", b"photo"), "headers": IS_FORM}, 400, "no image"),
    "a form that is none": ({"headers": {"content-type": "multipart/form-data; boundary=a"}}, 400, ""),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_told_in_one_line(client: Any, name: str) -> None:
    given, status, said = BAD[name]
    if name == "too many bytes in pieces":
        given = {"body": iter([b"x" * 3000] * 2)}
    answer = post(client, **given)
    assert answer.status_code == status or answer.status_code // 100 == status, answer.text
    (problem,) = answer.json().values()
    assert said in problem and "\n" not in problem and "\x1b" not in answer.text
    assert post(client).status_code == 200, "and the next one is answered"


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/predict", 405), ("PUT", "/predict", 405), ("GET", "/static/../../etc/passwd", 404), ("POST", "/", 405),
    ("POST", "/predict/", 404), ("GET", "/net/", 404), ("GET", "/healthz/", 404), ("GET", "/metrics/", 404),
])  # fmt: skip
def test_there_are_no_other_ways_in(client: Any, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    (problem,) = answer.json().values()
    assert ("there is no " if status == 404 else f"{path} takes ") in problem
    assert status == 404 or answer.headers["allow"] in ("POST", "GET, HEAD", "HEAD, GET")


@pytest.mark.parametrize("host, known", [
    ("localhost", True), ("localhost:8000", True), ("a.localhost", True), ("127.0.0.1:8000", True),
    ("[::1]:8000", True), ("192.168.0.7", True), ("seen.example:8000", True), ("SEEN.example.", True),
    ("evil.example", False), ("", False),
    ("localhost.evil.example", False), ("127.0.0.1.evil.example", False), ("[::1].evil", False),
    ("localhost@evil", False), ("127.0.0.1:80:80", False), ("evil.example/localhost", False), ("\u0661.0.0.1", False),
])  # fmt: skip
def test_a_page_whose_name_was_bound_to_this_machine_gets_nothing(host: str, known: bool) -> None:
    """DNS rebinding: the browser takes evil.example for the origin, the connection goes to 127.0.0.1."""
    assert Guard(lambda *_: None, ["seen.example"]).knows(host) is known  # type: ignore[arg-type, return-value]


OTHERS = {
    "another origin": {"origin": "https://evil.example"},
    "no origin that counts": {"origin": "null"},
    "another port": {"origin": "http://localhost:8001"},
    "a form of another site": {"sec-fetch-site": "cross-site"},
    "a neighbour": {"sec-fetch-site": "same-site", "origin": "http://localhost:8000"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_pages_of_others_may_not_ask(client: Any, name: str) -> None:
    assert post(client, headers=OTHERS[name]).status_code == 403
    assert client.post("/predict", files={"image": png_of(IMAGE)}, headers=OTHERS[name]).status_code == 403
    own = {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
    assert post(client, headers=own).status_code == 200
    assert not any(header.startswith("access-control") for header in post(client, headers=own).headers)


def test_another_host_is_refused_everywhere(client: Any) -> None:
    for path in ("/", "/net", "/healthz", "/metrics", "/no-such"):
        assert client.get(path, headers={"host": "evil.example"}).status_code == 421


# The page


def test_the_page_shows_names_as_text_and_loads_nothing(client: Any) -> None:
    empty, full = client.get("/"), post(client, query="?format=page")
    for answer in (empty, full):
        assert answer.headers["content-type"].startswith("text/html")
        assert "script-src 'sha256-" in answer.headers["content-security-policy"]
        assert "<title>a&lt;b&gt;</title>" in answer.text
        addresses = re.findall(r'(?:src|href|action)="([^"]*)"', answer.text)
        assert addresses and all(each.startswith(("data:", "/predict?")) for each in addresses)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in full.text and "<script>alert" not in full.text
    assert "blue\\u202ethings" in full.text and "\u202e" not in full.text
    problem = post(client, b"<b>", "?format=page")
    assert problem.status_code == 400 and 'role="alert">not an image' in problem.text


# Health and metrics


def test_health_and_metrics() -> None:
    with client_of() as client:
        post(client), post(client, b"?"), client.get("/")
        assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "ok\n")
        text = client.get("/metrics").text
    assert 'fcn_port_requests_total{status="200"} 2.0' in text and 'fcn_port_requests_total{status="400"} 1.0' in text
    assert "fcn_port_images_total 1.0" in text and "fcn_port_request_seconds_count 2.0" in text
    assert 'fcn_port_net{engine="padded",net="a<b>"' in text and "fcn_port_active_requests 0.0" in text


# Busy, late, broken


class Slow:
    """The net behind a gate: it sees nothing until it may; `error` is what it then raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may, self.began, self.error = threading.Event(), threading.Event(), error
        self._look = look_through(largest_channel())

    def __call__(self, images: list[np.ndarray]) -> Any:
        self.began.set()
        assert self.may.wait(60)
        if self.error is not None:
            raise self.error
        return self._look(images)


def client_behind(slow: Slow, **limits: Any) -> Any:
    """A client of the application around a slow net."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    service = Service(slow, served_net(largest_channel(), "slow"), ServerLimits(**limits), threads=1, batch=4)
    app = Starlette(routes=[Route("/predict", service.predict, methods=["POST"])], lifespan=service.lifespan)
    return testclient.TestClient(app, base_url="http://localhost")


def test_more_than_may_wait_are_told_to_come_again() -> None:
    slow = Slow()
    with client_behind(slow, waiting=1) as client, ThreadPoolExecutor(1) as others:
        first = others.submit(post, client)
        assert slow.began.wait(60)
        answer = post(client)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1") and "under way" in answer.text
        slow.may.set()
        assert first.result(60).status_code == 200 and post(client).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    slow = Slow()
    with client_behind(slow, seconds=0.2) as client:
        answer = post(client)
        assert answer.status_code == 503 and "within 0.2 s" in answer.text
        slow.may.set()


@pytest.mark.parametrize("error, status, said", [
    (NetError("this net\nis odd"), 422, "this net"), (MemoryError(), 503, "not enough memory"),
    (KeyError("secret"), 500, "its log says how"),
])  # fmt: skip
def test_a_net_that_fails_is_told_without_particulars(
    error: Exception, status: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow(error)
    slow.may.set()
    with client_behind(slow) as client:
        answer = post(client)
        assert answer.status_code == status and said in answer.json()["error"] and "secret" not in answer.text
    if status == 500:
        assert "KeyError" in caplog.text


@pytest.mark.parametrize("make", [largest_channel, of_values, of_whole_images, ssd])
def test_what_a_refusal_advises_is_answered(make: Any) -> None:
    with client_of(make()) as client:
        for form in ("json", "labels", "overlay", "coco"):
            answer = client.post(f"/predict?format={form}", content=BODY)
            said = "" if answer.status_code == 200 else answer.json()["error"].partition("ask for ")[2]
            assert answer.status_code == 200 or said
            for each in re.findall("json|labels|overlay|coco", said):
                assert client.post(f"/predict?format={each}", content=BODY).status_code == 200, (form, each)
