"""The archives of the data sets: where each is published, its checksum, and where its parts go in `data_dir()`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.safety import sha256_of
from weights.records import Checksum

from .sets.voc import SEG11VALID_DIGEST

_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
_FCN = "https://raw.githubusercontent.com/shelhamer/fcn.berkeleyvision.org/master/data"
_CONTEXT = "https://cs.stanford.edu/~roozbeh/pascal-context"

GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class Archive:
    """A published file and what becomes of it.

    It is unpacked to the folder `home`, or, for a plain file, becomes the file `home`. `marker`: the name that lies
    directly in the folder inside the archive that becomes `home`. `holds`: what is in `home` when it is there.
    `after`: the archive whose folder it goes into. `largest`: bytes that it and its contents may have at most.
    `page`: where it was announced.
    """

    name: str
    title: str
    file: str
    urls: tuple[str, ...]
    home: str
    page: str
    marker: str | None = None
    holds: tuple[str, ...] = ()
    after: str | None = None
    checksum: Checksum | None = None
    largest: int = 1_000_000

    @property
    def unpacked(self) -> bool:
        """True if it is an archive, and not a plain file."""
        return self.marker is not None

    def here(self, root: Path) -> bool:
        """True if it lies in its place below `root`; a plain file with a checksum must have that."""
        home = root / self.home
        if not self.unpacked and home.is_file() and self.checksum is not None:
            return sha256_of(home) == self.checksum.digest
        return home.exists() and all((home / each).exists() for each in self.holds)


def _voc(year: int, file: str, md5: str, *, about: str = "") -> Archive:
    return Archive(
        name=f"voc{year}",
        title=f"PASCAL VOC {year} trainval{about}",
        file=file,
        urls=(f"{_VOC}/voc{year}/{file}",),
        home=f"VOCdevkit/VOC{year}",
        page=f"{_VOC}/voc{year}/",
        marker="JPEGImages",
        holds=("JPEGImages", "SegmentationClass", "ImageSets"),
        checksum=Checksum("md5", md5),
        largest=4 * GIGABYTE,
    )


_ALL = (
    _voc(2011, "VOCtrainval_25-May-2011.tar", "6c3384ef61512963050cb5d687e5bf1e"),
    Archive(
        name="seg11valid",
        title="the 736 images that the VOC releases are scored on",
        file="seg11valid.txt",
        urls=(f"{_FCN}/pascal/seg11valid.txt",),
        home="VOCdevkit/VOC2011/ImageSets/Segmentation/seg11valid.txt",
        page="https://github.com/shelhamer/fcn.berkeleyvision.org",
        after="voc2011",
        checksum=Checksum("sha256", SEG11VALID_DIGEST),
    ),
    _voc(2012, "VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd"),
    _voc(2010, "VOCtrainval_03-May-2010.tar", "da459979d0c395079b5c75ee67908abb", about=", for PASCAL-Context"),
    Archive(
        name="sbd",
        title="Semantic Boundaries Dataset",
        file="benchmark.tgz",
        urls=(
            "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        ),
        home="benchmark_RELEASE/dataset",
        page="http://home.bharathh.info/pubs/codes/SBD/download.html",
        marker="cls",
        holds=("img", "cls", "train.txt", "val.txt"),
        checksum=Checksum("md5", "82b4d87ceb2ed10f6038a1cba92111cb"),
        largest=6 * GIGABYTE,
    ),
    Archive(
        name="pascalcontext",
        title="PASCAL-Context, labels of VOC2010 in 459 classes",
        file="trainval.tar.gz",
        urls=(f"{_CONTEXT}/trainval.tar.gz",),
        home="pascal-context/trainval",
        page=f"{_CONTEXT}/",
        marker="*.mat",
        largest=4 * GIGABYTE,
    ),
    Archive(
        name="pascalcontext-labels",
        title="the names of PASCAL-Context's classes",
        file="labels.txt",
        urls=(f"{_CONTEXT}/labels.txt", f"{_FCN}/pascal-context/classes-400.txt"),
        home="pascal-context/labels.txt",
        page=f"{_CONTEXT}/",
    ),
    Archive(
        name="siftflow",
        title="SIFT Flow (LabelMe Outdoor)",
        file="SiftFlowDataset.zip",
        urls=("http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",),
        home="SiftFlowDataset",
        page="http://www.cs.unc.edu/~jtighe/Papers/ECCV10/",
        marker="SemanticLabels",
        holds=("Images", "SemanticLabels", "GeoLabels"),
        largest=2 * GIGABYTE,
    ),
    *(
        Archive(
            name=f"siftflow-{split}",
            title=f"SIFT Flow's {split} images that have labels",
            file=f"{split}.txt",
            urls=(f"{_FCN}/sift-flow/{split}.txt",),
            home=f"SiftFlowDataset/{split}.txt",
            after="siftflow",
            page="https://github.com/shelhamer/fcn.berkeleyvision.org",
        )
        for split in ("trainval", "test")
    ),
    Archive(
        name="nyud",
        title="NYUDv2 as the release uses it: colour, depth, HHA, 40 classes",
        file="nyud.tar.gz",
        urls=("http://dl.caffe.berkeleyvision.org/nyud.tar.gz",),
        home="nyud",
        page="http://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html",
        marker="segmentation",
        holds=("segmentation", "data/images"),
        largest=10 * GIGABYTE,
    ),
    *(
        Archive(
            name=f"nyud-{split}",
            title=f"NYUDv2's {split} images",
            file=f"{split}.txt",
            urls=(f"{_FCN}/nyud/{split}.txt",),
            home=f"nyud/{split}.txt",
            after="nyud",
            page="https://github.com/shelhamer/fcn.berkeleyvision.org",
        )
        for split in ("train", "val", "test")
    ),
)

ARCHIVES: Mapping[str, Archive] = {archive.name: archive for archive in _ALL}
"""Everything that was published, by name. VOC's test sets are private: its server hands out their images after a
registration (`fcn-port evaluate --submission` writes what it takes)."""

BELONG_TOGETHER: Mapping[str, tuple[str, ...]] = {
    "voc2011": ("voc2011", "seg11valid"),
    "pascalcontext": ("voc2010", "pascalcontext", "pascalcontext-labels"),
    "siftflow": ("siftflow", "siftflow-trainval", "siftflow-test"),
    "nyud": ("nyud", "nyud-train", "nyud-val", "nyud-test"),
}
"""Archives that are fetched besides, when a data set is asked for."""


def find_archives(name: str) -> tuple[Archive, ...]:
    """The files of a data set, or one file; KeyError offers the closest names."""
    if name not in ARCHIVES:
        close = difflib.get_close_matches(name.lower(), list(ARCHIVES), n=3, cutoff=0.5)
        offer = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(ARCHIVES)}"
        raise KeyError(f"there is no data set called {name!r}: {offer}")
    return tuple(ARCHIVES[each] for each in BELONG_TOGETHER.get(name, (name,)))
