"""Draw docs/pictures/sample.png: held-out images above, what the bundled release sees below, and which colour is what.

python docs/pictures/sample.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import fcn_port
from fcn_port.data.shapes import draw_shapes
from fcn_port.predict.legend import with_legend

SEED, INDICES = 2, (3, 8, 14, 17)
"""Of the images that its score is measured on."""


def main() -> None:
    net = fcn_port.load("weights/sample/shapes-fcn8s.caffemodel")
    columns = []
    for index in INDICES:
        image, _ = draw_shapes(np.random.default_rng((SEED, index)), size=(240, 320))
        columns.append(np.concatenate([image, net.palette[fcn_port.segment(net, image).labels]]))
    picture = Image.fromarray(np.concatenate(columns, axis=1).astype(np.uint8)).resize(
        (960, 360), Image.Resampling.LANCZOS
    )
    colours = [tuple(map(int, colour)) for colour in net.palette]
    entries = list(zip(net.classes["score"], colours, strict=False))
    with_legend(picture, entries).save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
