"""Draw docs/pictures/trace.png: the end of FCN-8s' trace for 100x100, as `fcn-port report` draws it in Chromium.

python -m docs.pictures.trace
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

from fcn_port.cli import run
from parity_tests.chromium import Page

FIRST = "pool5"
WIDTH = 900
PLACE = """
(() => {
  const rows = [...document.querySelectorAll("#trace .blob")];
  const first = rows.find((row) => row.querySelector(".name").textContent === "FIRST");
  const [top, bottom] = [first.getBoundingClientRect(), rows.at(-1).getBoundingClientRect()];
  return {x: top.x - 8, y: top.y, width: top.width + 16, height: bottom.bottom - top.y + 8, scale: 1};
})()
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "trace.html"
        assert run(["report", "voc-fcn8s", "--size", "100", "-o", str(page)]) == 0
        with Page(width=WIDTH, height=900) as browser:
            browser.open(page.as_uri())
            clip = browser.value(PLACE.replace("FIRST", FIRST))
            shot = browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    Path(__file__).with_suffix(".png").write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main()
