"""The page of a server: a place to drop an image, and what the net sees in it. Nothing comes from elsewhere.

It works without its script, which only saves the reader a click; what it shows is made here, and every text in it goes
through `html`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

from PIL import Image

from converters.escaping import html, json_text
from converters.version import VERSION

from ..detection import Detections
from ..predict import Segmentation
from ..predict.classifying import MOST_NAMED, Classification
from ..predict.palettes import colour_of
from ..predict.value_map import ValueMap
from ..report.html import STYLE, Html, data_uri
from .answers import coco_results, jpeg, overlay_picture, png, to_json
from .page_style import PAGE_STYLE, SCRIPT
from .records import ServedNet, ServerLimits
from .seeing import Sight

_LONGEST = 1600
"""Pixels of the longer side of a picture on the page."""

_VERBS = {
    "labels": "labels pixels",
    "values": "gives each pixel a value",
    "classes": "names images",
    "objects": "finds objects",
}
_MOST_CHANNELS = 3
"""Channels of a map of values that the page shows."""

_SCRIPT_DIGEST = b64encode(sha256(SCRIPT.encode()).digest()).decode("ascii")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; connect-src 'self'; form-action 'self'; "
    f"base-uri 'none'; frame-ancestors 'none'; script-src 'sha256-{_SCRIPT_DIGEST}'"
)
"""The page runs the one script that it was made with."""


def whole_page(net: ServedNet, limits: ServerLimits, result: Html = "") -> Html:
    """The page with a result, or with none yet."""
    verb = _VERBS[net.finds]
    names = [name for each in net.classes.values() for name in each]
    known = f", {len(names)} classes" if names else ""
    megapixels, megabytes = limits.most_pixels / 1e6, limits.most_bytes / (1 << 20)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{html(net.name)}</title>\n<style>{STYLE}{PAGE_STYLE}</style></head>\n<body><main>\n"
        f'<h1>{html(net.name)}</h1><p class="lead">A net that {verb}{known}, run by fcn-port {html(VERSION)}.</p>\n'
        '<form method="post" action="/predict?format=page" enctype="multipart/form-data">'
        '<label class="drop"><input type="file" name="image" accept="image/*" required>'
        "<b>Drop an image here, or choose one</b>"
        f"<small>at most {megapixels:g} megapixels and {megabytes:g} MiB; it is kept nowhere</small></label>"
        "<button>Look</button></form>\n"
        f'<div id="result" aria-live="polite">{result}</div>\n</main>\n<script>{SCRIPT}</script></body></html>\n'
    )


def problem_part(problem: str) -> Html:
    """The part of the page that says what went wrong."""
    return f'<p class="problem" role="alert">{html(problem)}</p>'


def result_part(sight: Sight, seconds: float) -> Html:
    """The part of the page with what is seen in an image, after so many seconds."""
    if isinstance(sight, Detections):
        return _objects(sight, seconds)
    if isinstance(sight, Classification):
        return _best_classes(sight, seconds)
    told = _json_address(to_json(sight))
    return "".join(
        _values(name, each, seconds, number, told)
        if isinstance(each, ValueMap)
        else _labels(name, each, seconds, number, told)
        for number, (name, each) in enumerate(sight.items(), start=1)
    )


def _best_classes(seen: Classification, seconds: float) -> Html:
    h, w = seen.image.shape[:2]
    best = seen.found[:MOST_NAMED]
    rows = "".join(
        _row(each.name, seen.shown(each), 100 * (each.score or 0.0) if seen.probabilities else 0.0, None)
        for each in best
    )
    picture = _photograph(Image.fromarray(seen.image))
    return (
        f"<section><h2>{html(best[0].name) if best else 'Nothing'}</h2><p>{w} x {h} pixels in {seconds:.2f} s</p>"
        f'<div class="seen"><figure class="views"><div><img class="only" src="{picture}" alt="Image"></div></figure>'
        f'<div><div class="legend best">{rows}</div>'
        f"{_links(('JSON', 'result.json', _json_address(to_json(seen))))}</div></div></section>\n"
    )


def _values(name: str, seen: ValueMap, seconds: float, number: int, told: str) -> Html:
    h, w = seen.image.shape[:2]
    title = f"{name}: " if name else ""
    shown = range(min(len(seen.values), _MOST_CHANNELS - 1))
    pictures = [seen.picture(channel) for channel in shown]
    views = (
        *((seen.name(channel) if len(seen.values) > 1 else "Values", _photograph(each))
          for channel, each in zip(shown, pictures, strict=True)),
        ("Image", _photograph(Image.fromarray(seen.image))),
    )  # fmt: skip
    low, high = seen.shown
    least, largest = seen.range
    more = f", the first {len(pictures)} of {len(seen.values)} channels" if len(seen.values) > len(pictures) else ""
    links = _links(("Values as PNG", f"map{number}.png", data_uri(png(pictures[0]), kind="png")),
                   ("JSON", "result.json", told))  # fmt: skip
    return (
        f"<section><h2>{html(title)}{w} x {h} pixels in {seconds:.2f} s</h2>"
        f'<div class="seen">{_views(views, number)}<div><p>Values from {least:.4g} to {largest:.4g}{more}.</p>'
        f'<div class="greys"><span>{low:.4g}</span><i></i><span>{high:.4g}</span></div>{links}</div></div></section>\n'
    )


def _labels(name: str, seen: Segmentation, seconds: float, number: int, told: str) -> Html:
    h, w = seen.labels.shape
    title = f"{name}: " if name else ""
    flat = seen.label_image()
    one = seen.kind == "independent" and seen.scores is not None and len(seen.scores) == 1  # edges, saliency
    values = ValueMap(seen.scores, seen.bounded, seen.image) if one and seen.scores is not None else None
    views = (
        *(() if values is None else (("Values", _photograph(values.picture())),)),
        ("Tinted", _photograph(seen.overlay())),
        ("Labels", _flat(flat)),
        ("Image", _photograph(Image.fromarray(seen.image))),
    )
    rows = "".join(
        _row(each.name, _percent(each.share), 100 * each.share, each.colour if each.drawn else None)
        for each in seen.classes_found()
    )
    links = _links(
        ("Labels as PNG", f"labels{number}.png", data_uri(png(flat), kind="png")),
        ("COCO run lengths", f"coco{number}.json", _json_address(coco_results({"": seen}, 0))),
        ("JSON", "result.json", told),
    )
    return (
        f"<section><h2>{html(title)}{w} x {h} pixels in {seconds:.2f} s</h2>"
        f'<div class="seen">{_views(views, number)}<div><div class="legend">{rows}</div>{links}</div></div></section>\n'
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %"


def _views(views: Sequence[tuple[str, str]], number: int) -> Html:
    """Pictures of which one is shown, chosen by buttons that need no script."""
    buttons = "".join(
        f'<input type="radio" name="view{number}" id="view{number}-{i}"{" checked" if not i else ""}>'
        f'<label for="view{number}-{i}">{html(what)}</label>'
        for i, (what, _) in enumerate(views)
    )
    pictures = "".join(f'<img src="{address}" alt="{html(what)}">' for what, address in views)
    return f'<figure class="views">{buttons}<div>{pictures}</div></figure>'


def _row(name: str, value: str, percent: float, colour: tuple[int, int, int] | None) -> Html:
    ground = "" if colour is None else f' style="background:rgb{colour}"'
    return (
        f'<div class="row"><span class="name"><i class="key{"" if ground else " none"}"{ground}></i>{html(name)}</span>'
        f'<span class="track"><i class="bar" style="width:{percent:.2f}%"></i></span>'
        f'<span class="value">{html(value)}</span></div>'
    )


def _objects(found: Detections, seconds: float) -> Html:
    h, w = found.image.shape[:2]
    rows = "".join(
        f'<tr><td><i class="key" style="background:rgb{colour_of(found.palette, each.class_id)}"></i>'
        f"{html(each.name)}</td>"
        f"<td>{each.score:.2f}</td><td>{'  '.join(f'{value:.0f}' for value in each.box)}</td></tr>"
        for each in found
    )
    head = "<tr><th>class</th><th>score</th><th>left, top, right, bottom</th></tr>"
    table = f'<div class="scroll"><table>{head}{rows}</table></div>' if rows else "<p>Nothing was found.</p>"
    links = _links(
        ("JSON", "result.json", _json_address(to_json(found))),
        ("COCO's results", "coco.json", _json_address(coco_results(found, 0))),
    )
    picture = _photograph(overlay_picture(found))
    return (
        f"<section><h2>{len(found)} objects in {w} x {h} pixels, {seconds:.2f} s</h2>"
        f'<div class="seen"><figure class="views"><div><img class="only" src="{picture}" alt="boxes"></div></figure>'
        f"<div>{table}{links}</div></div></section>\n"
    )


def _links(*links: tuple[str, str, str]) -> Html:
    made = " ".join(f'<a download="{html(file)}" href="{address}">{html(what)}</a>' for what, file, address in links)
    return f'<p class="links">{made}</p>'


def _photograph(picture: Image.Image) -> str:
    return data_uri(jpeg(picture, longest=_LONGEST), kind="jpeg")


def _flat(picture: Image.Image) -> str:
    """A label map as an address, each pixel one class also where it is made smaller."""
    scale = min(1.0, _LONGEST / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return data_uri(png(picture if scale == 1 else picture.resize(size, Image.Resampling.NEAREST)), kind="png")


def _json_address(value: object) -> str:
    return f"data:application/json;base64,{b64encode(json_text(value).encode()).decode('ascii')}"
