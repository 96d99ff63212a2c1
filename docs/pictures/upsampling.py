"""Draw docs/pictures/upsampling.png: one net and one image, upsampled in every way.

    python docs/pictures/upsampling.py

The net has FCN's layers and weights set by hand, so that nothing need be trained: it sees how red, green or blue a
pixel is, and passes that on through every layer; pooling leaves the strongest of each 32 x 32 block.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from fcn_port.nets import FCN, FCN8s, FCN32s, Widths, with_upsampling

SIDE = 224
CLASSES = 4
COLOURS = np.array([(245, 245, 245), (214, 69, 65), (39, 153, 96), (41, 108, 191)], np.uint8)
"""Background, red, green and blue, as they are painted in the image and in the labels."""
WIDTHS = Widths(*[CLASSES] * 7)


def image() -> Image.Image:
    """A disc, a triangle and a leaning bar on white."""
    picture = Image.new("RGB", (SIDE, SIDE), tuple(COLOURS[0]))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((18, 22, 96, 100), fill=tuple(COLOURS[1]))
    draw.polygon([(146, 20), (206, 112), (112, 92)], fill=tuple(COLOURS[2]))
    draw.polygon([(30, 190), (186, 142), (194, 166), (38, 212)], fill=tuple(COLOURS[3]))
    return picture


def by_hand(net: FCN) -> FCN:
    """Weights with which feature k of every layer is how much a pixel has of colour k, and the score of class k."""
    with torch.no_grad():
        for name, layer in net.named_children():
            if isinstance(layer, nn.Conv2d):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
                middle = layer.kernel_size[0] // 2
                for colour in range(1, CLASSES):
                    if name == "conv1_1":  # blue, green and red of the input, less the other two
                        layer.weight[colour, :, middle, middle] = -1 / 2
                        layer.weight[colour, 3 - colour, middle, middle] = 1
                    else:
                        layer.weight[colour, colour, middle, middle] = 1
            if name == "score_fr":
                layer.bias[0] = 25  # what a colour must have to be more than background
    return net


def fcn8s() -> FCN:
    """The same with skips: what pool3 sees counts most, so that the finest score decides."""
    net = by_hand(FCN8s(CLASSES, widths=WIDTHS)).eval()
    with torch.no_grad():
        for layer, weight in (("score_fr", 0.05), ("score_pool4", 0.15), ("score_pool3", 0.8)):
            getattr(net, layer).weight.mul_(weight)
    return net


def labels(net: nn.Module, picture: Image.Image) -> np.ndarray:
    x = torch.from_numpy(np.array(picture)[:, :, ::-1].astype(np.float32).transpose(2, 0, 1)[None].copy())
    with torch.inference_mode():
        return net(x)[0].argmax(0).numpy()


def panel(title: str, found: np.ndarray | None, picture: Image.Image, *, dots: bool = False) -> Image.Image:
    """The labels over a faint image, with a title; `dots` are drawn larger, or nobody would see them."""
    pixels = np.array(picture)
    if found is not None:
        pixels = (255 - (255 - pixels.astype(int)) * 0.25).astype(np.uint8)
        if dots:
            spots = torch.from_numpy(found)[None, None].float()
            found = nn.functional.max_pool2d(spots, 5, stride=1, padding=2)[0, 0].long().numpy()
        pixels[found > 0] = COLOURS[found[found > 0]]
    out = Image.new("RGB", (SIDE + 8, SIDE + 28), "white")
    out.paste(Image.fromarray(pixels), (4, 24))
    ImageDraw.Draw(out).rectangle((3, 23, SIDE + 4, SIDE + 24), outline=(170, 170, 170))
    ImageDraw.Draw(out).text((5, 5), title, fill="black", font_size=14)
    return out


def main() -> None:
    picture = image()
    net = by_hand(FCN32s(CLASSES, widths=WIDTHS)).eval()
    panels = [panel("image", None, picture)]
    for method in ("learned", "nearest", "bed-of-nails", "max-unpooling", "shift-and-stitch", "dilation"):
        sparse = method in ("bed-of-nails", "max-unpooling")
        title = "learned, begins bilinear" if method == "learned" else method
        panels.append(panel(title, labels(with_upsampling(net, method), picture), picture, dots=sparse))
    panels.append(panel("learned, with the skips of FCN-8s", labels(fcn8s(), picture), picture))
    width, height = panels[0].size
    sheet = Image.new("RGB", (4 * width, 2 * height), "white")
    for i, each in enumerate(panels):
        sheet.paste(each, (i % 4 * width, i // 4 * height))
    sheet.quantize(64).save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
