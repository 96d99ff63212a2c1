"""HTML in small pieces: escaped, without scripts, fonts or anything from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable

from converters.escaping import html, shortened

text = html
"""Text escaped for HTML, also for inside an attribute's quotes."""


def name_text(name: str) -> Html:
    """A name from a file, escaped, and cut where it would fill the page."""
    return text(shortened(name))


Html = str
"""Text that is HTML already; everything else goes through `text`, also inside an attribute's quotes."""


def section(id_: str, title: str, lead: str, body: Html) -> Html:
    """A part of the page under a heading, with a sentence or two on how it is read."""
    return f'<section id="{text(id_)}"><h2>{text(title)}</h2><p class="lead">{text(lead)}</p>{body}</section>\n'


def bar_row(name: str, value: str, percent: float, *, marks: Iterable[tuple[float, str]] = (), kind: str = "") -> Html:
    """A named bar: its length in percent of the row, and ticks with a hint at other values (percent, what)."""
    ticks = "".join(f'<i class="tick" style="left:{_percent(at)}" title="{text(what)}"></i>' for at, what in marks)
    return (
        f'<div class="row"><span class="name">{name_text(name)}</span><span class="track">'
        f'<i class="bar {text(kind)}" style="width:{_percent(percent)}"></i>{ticks}</span>'
        f'<span class="value">{text(value)}</span></div>'
    )


def data_uri(content: bytes, *, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:image/{kind};base64,{b64encode(content).decode('ascii')}"


def _percent(value: float) -> str:
    return f"{min(max(value, 0.0), 100.0):.3f}%"


def document(title: str, body: Html) -> Html:
    """A whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{text(title)}</title>\n<style>{STYLE}</style></head>\n<body><main>\n{body}</main></body></html>\n"
    )


STYLE = """
:root { --paper: #fbfbf9; --ink: #1d2126; --quiet: #62696f; --line: #d9dbd6; --track: #eaebe6; --bar: #2f6fb0;
  --good: #2f7d4f; --bad: #b3372f; --mark: #c25e00; --cut: #d98c3f; --image: #2f6fb01f }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e6e7e4; --quiet: #9aa1a9;
  --line: #363b42; --track: #262b31; --bar: #6aa8e6; --good: #66bd8a; --bad: #ee8078; --mark: #f0a04b; --cut: #b97b3c;
  --image: #6aa8e62b } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { overflow-wrap: anywhere; max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .2rem; padding-top: .7rem; border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem }
p { margin: .3rem 0 .8rem; max-width: 46rem } .lead, .quiet, figcaption { color: var(--quiet) }
code, .name, .size, .value { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .8125rem }
.cards { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0 }
.card { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .8rem; flex: 1 1 8rem }
.card b { display: block; font-size: 1.35rem; line-height: 1.25; font-variant-numeric: tabular-nums }
.card small { color: var(--quiet); display: block }
.ok { color: var(--good) } .no { color: var(--bad) }
.row { display: grid; grid-template-columns: 10rem 1fr 6.5rem; gap: .6rem; align-items: center; min-height: 1.55rem }
.row .name { overflow-wrap: anywhere; line-height: 1.2 }
.track { position: relative; height: .8rem; background: var(--track); border-radius: 2px }
.bar { position: absolute; inset: 0 auto 0 0; background: var(--bar); border-radius: 2px }
.bar.good { background: var(--good) } .bar.bad { background: var(--bad) }
.tick { position: absolute; top: -3px; bottom: -3px; width: 3px; margin-left: -1px; background: var(--mark);
  box-shadow: 0 0 0 1px var(--paper) }
.value { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.key { display: inline-block; width: .8rem; height: .8rem; vertical-align: -.08rem; margin: 0 .35rem 0 .8rem }
.keys { color: var(--quiet); font-size: .85rem; margin-left: -.8rem }
.blob { display: grid; grid-template-columns: 15rem 1fr; gap: .6rem; align-items: center; padding: 2px 0 }
.blob .size { color: var(--quiet); white-space: nowrap } .blob small { color: var(--quiet); display: block;
  font-size: .75rem; line-height: 1.25 }
.blob .name { font-weight: 600; overflow-wrap: anywhere }
.scale { position: relative; align-self: stretch; min-height: 1.15rem }
.scale i { position: absolute } .scale .whole { top: calc(50% - .42rem); height: .84rem; overflow: hidden }
.scale .kept { background-color: var(--bar); border-radius: 1px }
.scale .cells { background-image: repeating-linear-gradient(90deg, transparent 0 calc(var(--cell) - 1.5px),
  var(--paper) calc(var(--cell) - 1.5px) var(--cell)) }
.scale .cut { border-radius: 1px; border: 1px solid var(--cut);
  background: repeating-linear-gradient(45deg, var(--cut) 0 2px, transparent 2px 6px) }
.scale .image { top: -2px; bottom: -2px; background: var(--image); border: solid var(--mark); border-width: 0 1px }
.scroll { overflow: auto; width: fit-content; max-width: 100%; border: 1px solid var(--line);
  border-radius: .4rem; padding: .4rem; background: linear-gradient(90deg, var(--paper) 2rem, transparent) local,
  linear-gradient(270deg, var(--paper) 2rem, transparent) local,
  linear-gradient(90deg, var(--bar), transparent 1rem) scroll,
  linear-gradient(270deg, var(--bar), transparent 1rem) scroll }
.scroll svg { display: block; font: 11px system-ui, sans-serif; fill: var(--ink) }
.pictures { display: grid; grid-template-columns: repeat(4, 1fr); gap: .5rem; margin: 0 0 .4rem }
.pictures img { width: 100%; height: auto; display: block; border-radius: 3px; background: var(--track) }
.pictures figure { margin: 0; min-width: 0 } figcaption { font-size: .8rem }
.swatches { display: flex; flex-wrap: wrap; gap: .15rem .2rem } .swatches .key { border: 1px solid var(--quiet) }
@media (max-width: 40rem) {
  .row { grid-template-columns: 6.6rem 1fr 4.6rem; gap: .4rem } .row .name, .value { font-size: .72rem }
  .blob { grid-template-columns: 1fr; gap: 2px; padding: 5px 0 } .pictures { grid-template-columns: repeat(2, 1fr) }
}
@media print {
  body { print-color-adjust: exact; -webkit-print-color-adjust: exact } .scroll { overflow: visible }
  h2, h3 { break-after: avoid } .pictures, .cards, .row, .blob { break-inside: avoid }
}
"""
