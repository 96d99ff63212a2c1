"""The colours of label maps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

_BACKGROUND = frozenset(("background", "__background__", "void", "unlabeled", "unlabelled", "ignore", "none"))
"""Names of a class that is no thing; where the first class has another one, it is drawn as all are."""
_FIRST_THING = (255, 150, 205)
"""A colour at least 100 from each of VOC's first 64, and from black and white."""


def palette(name: str | None) -> np.ndarray | None:
    """The (256, 3) uint8 RGB colours of a palette by name, a key of PALETTES, or written "#rrggbb #rrggbb ...".

    None for None. Classes beyond those that are written have VOC's colours.
    """
    if name is None:
        return None
    if name.startswith("#"):
        return _written(name)
    if name not in PALETTES:
        raise ValueError(f"there is no palette '{name}'; known: {', '.join(PALETTES)}")
    return PALETTES[name]()


def voc_palette() -> np.ndarray:
    """PASCAL VOC's colours: the bits of a label, taken three at a time, fill R, G and B from the top bit down.

    Label 255, "ignore", comes out as the cream colour (224, 224, 192) of VOC's borders. Source: VOCcolormap of the VOC
    development kit.
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((labels >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def visible_palette(colours: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The colours (256, 3) uint8 RGB in which these classes can be told from the image under them.

    VOC's first colour is black, as its first class is the background. Where the first of `classes` is a thing, such as
    NYUDv2's wall, black would only darken it: it is pink. Colours that somebody chose stay as they are.
    """
    if not has_things_only(classes) or not np.array_equal(colours, voc_palette()):
        return colours
    return np.concatenate([np.array([_FIRST_THING], np.uint8), colours[1:]])


def colour_of(colours: np.ndarray, label: int) -> tuple[int, int, int]:
    """The colour of a class, RGB; those beyond a palette's 256 begin it again."""
    r, g, b = (int(value) for value in colours[label % 256])
    return r, g, b


def has_things_only(classes: Sequence[str]) -> bool:
    """True for names of which the first is no background; False where none is known."""
    return bool(classes) and classes[0].lower() not in _BACKGROUND


def _written(text: str) -> np.ndarray:
    colours = voc_palette()
    words = text.split()[: len(colours)]
    if not all(re.fullmatch(r"#[0-9a-fA-F]{6}", word) for word in words):
        raise ValueError(f"{text[:40]!r} are no colours: expected #rrggbb, parted by spaces")
    colours[: len(words)] = [[int(word[at : at + 2], 16) for at in (1, 3, 5)] for word in words]
    return colours


def camvid_palette() -> np.ndarray:
    """The colours of CamVid's 11 classes, void in black (SegNet-Tutorial, Scripts/test_segmentation_camvid.py)."""
    return _of_hex(_CAMVID)


def ade20k_palette() -> np.ndarray:
    """The colours of the 150 classes of scene parsing, void in black (sceneparsing, visualizationCode/color150.mat)."""
    return _of_hex(_ADE20K)


def _of_hex(text: str) -> np.ndarray:
    colours = np.zeros((256, 3), np.uint8)
    values = np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 3)
    colours[: len(values)] = values
    return colours


def cityscapes_palette() -> np.ndarray:
    """The colours of Cityscapes' 19 classes, void in black (cityscapesscripts/helpers/labels.py)."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(_CITYSCAPES)] = _CITYSCAPES
    return colours


_CITYSCAPES = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
    (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip

_CAMVID = "808080 800000 c0c080 804080 3c28de 808000 c08080 404080 400080 404000 0080c0 "
_ADE20K = (
    "787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33 "
    "ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff "
    "08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff "
    "eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff "
    "0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad "
    "0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 "
    "00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa "
    "8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 "
    "ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff "
    "00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff "
)

PALETTES: Mapping[str, Callable[[], np.ndarray]] = {
    "voc": voc_palette,
    "cityscapes": cityscapes_palette,
    "camvid": camvid_palette,
    "ade20k": ade20k_palette,
}
