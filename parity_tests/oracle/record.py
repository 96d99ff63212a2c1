"""Re-record the goldens with the oracle, and say how far they are from the committed ones.

``python -m parity_tests.oracle.record`` writes to a folder of its own and changes nothing; ``--write`` then replaces
the committed files that differ. Exit status: 0 all within the table of tolerances, 1 something is further off.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import fcn_port
from converters.formats.prototxt import format_prototxt
from fcn_port.nets import NETS, FCNGoogLeNet
from fcn_port.porting import net_definition
from parity_tests import goldens
from parity_tests.goldens import GOLDEN, SAMPLE_GOLDEN, BlobGolden, GoldenId
from parity_tests.oracle.client import Oracle, OracleError, open_oracle
from parity_tests.oracle.folder import PROJECT
from parity_tests.oracle.record_solver import record_fixed, record_losses, record_zoo
from parity_tests.tolerances import tolerance


@dataclass(frozen=True)
class FormatNet:
    """How a net of golden/formats was filled and saved; its definition is the prototxt that lies there."""

    filling: str
    input_scale: float = 50.0
    legacy: bool = False


FORMATS = {
    "fcn8s-mini": FormatNet("random"),
    "layer-zoo-0": FormatNet("zoo", input_scale=1.0),
    "layer-zoo-1": FormatNet("zoo", input_scale=1.0),
    "v1-mini": FormatNet("random", legacy=True),
    "v0-mini": FormatNet("random", legacy=True),
}


@dataclass(frozen=True)
class Recording:
    """One recorded file (its path below golden/), and how far it is from the committed one.

    `difference` is relative to the largest magnitude of the blob in which it was found (of label maps, the number of
    labels that differ without a tie); infinite where there is nothing to compare with, or names, shapes or text differ.
    """

    file: str
    difference: float
    allowed: float
    where: str = ""

    @property
    def ok(self) -> bool:
        return self.difference <= self.allowed


SAMPLE = PROJECT / "weights" / "sample"
SAMPLE_PART = (slice(60, 108), slice(24, 88))
"""Rows and columns of the sample's picture, on its star: small, so that the golden is."""

SMALLEST = {"voc-fcn-googlenet": FCNGoogLeNet.smallest}
"""The least height and width of which a net leaves anything, where it is not 1."""


def prototxt_of(net: str, *, folder: Path | None = None) -> str | None:
    """Deployable prototxt of a net of golden/caffe, None where there is none.

    By default that of the hand-written net, which `voc-fcn8s-deploy` shares with `voc-fcn8s`.
    """
    if folder is None:
        name = net.removesuffix("-deploy")
        return format_prototxt(net_definition(name)) if name in NETS else None
    path = folder / f"{net}.prototxt"
    return path.read_text() if path.is_file() else None


def record_pass(oracle: Oracle, id_: GoldenId, prototxt: str, *, out: Path) -> Iterator[Recording]:
    """Samples of every blob of one forward pass (.json), and the label maps of its outputs (.npz)."""
    done = oracle.forward(prototxt, filling=id_.fill, size=id_.size)
    blobs = {name: _as_json(goldens.sample(name, blob)) for name, blob in done.blobs.items()}
    labels = {name: done.blobs[name][0].argmax(axis=0).astype(np.uint8) for name in done.outputs}
    record = {
        "net": id_.net,
        "size": list(id_.size),
        "fill": id_.fill,
        "blobs": blobs,
        "outputs": list(done.outputs),
    }
    (out / "caffe").mkdir(parents=True, exist_ok=True)
    (out / "caffe" / f"{id_}.json").write_text(json.dumps(record))
    np.savez_compressed(out / "caffe" / f"{id_}.npz", **labels)

    try:
        committed = goldens.golden(id_.net, id_.size, id_.fill)
    except FileNotFoundError:
        yield from (Recording(f"caffe/{id_}.{kind}", np.inf, 0.0, "new") for kind in ("json", "npz"))
        return
    difference, where = furthest(done.blobs, committed.blobs)
    yield Recording(f"caffe/{id_}.json", difference, tolerance("fcn-blobs"), where)
    changed = sum(int((labels[name] != committed.labels[name]).sum()) for name in labels)
    wrong = sum(
        len(goldens.wrong_labels(done.blobs[name], committed.labels[name], tie=tolerance("fcn-labels")))
        for name in labels
    )
    where = f"{changed} labels differ, {wrong} not at a tie" if changed else ""
    yield Recording(f"caffe/{id_}.npz", float(wrong), 0.0, where)


def record_shapes(oracle: Oracle, prototxts: Mapping[str, str], *, out: Path) -> Recording:
    """shapes.json, in which nets without a prototxt stay as they are."""
    committed = json.loads((GOLDEN / "caffe" / "shapes.json").read_text())
    sizes = list(next(iter(goldens.shapes().values())).blobs)
    recorded = committed | {
        net: oracle.shapes(prototxt, [size for size in sizes if min(size) >= SMALLEST.get(net, 1)])
        for net, prototxt in prototxts.items()
    }
    (out / "caffe").mkdir(parents=True, exist_ok=True)
    (out / "caffe" / "shapes.json").write_text(json.dumps(recorded))
    differs = [net for net in recorded if recorded[net] != committed.get(net)]
    return Recording("caffe/shapes.json", np.inf if differs else 0.0, 0.0, ", ".join(differs))


def record_format(oracle: Oracle, net: str, how: FormatNet, *, out: Path) -> Iterator[Recording]:
    """Every file of one net of golden/formats, made from its prototxt and the fill rule alone."""
    folder = out / "formats"
    folder.mkdir(parents=True, exist_ok=True)
    prototxt = (GOLDEN / "formats" / f"{net}.prototxt").read_text()
    saved = {
        ".caffemodel": oracle.save_legacy(prototxt, filling=how.filling)
        if how.legacy
        else oracle.save(prototxt, filling=how.filling)
    }
    if not how.legacy:
        saved[".caffemodel.h5"] = oracle.save(prototxt, filling=how.filling, hdf5=True)
    for ending, content in saved.items():
        path = folder / f"{net}{ending}"
        path.write_bytes(content)
        yield compare_weights(oracle, prototxt, path)
    if how.legacy:
        path = folder / f"{net}.upgraded.prototxt"
        path.write_text(oracle.upgrade(prototxt))
        committed_path = GOLDEN / "formats" / path.name
        same = committed_path.exists() and committed_path.read_text() == path.read_text()
        yield Recording(f"formats/{path.name}", 0.0 if same else np.inf, 0.0)

    weights = folder / f"{net}.caffemodel"
    done = oracle.forward(prototxt, weights=weights, input_scale=how.input_scale)
    np.savez_compressed(folder / f"{net}.npz", **done.blobs)  # type: ignore[arg-type]
    difference, where = np.inf, "new"
    if (GOLDEN / "formats" / f"{net}.npz").exists():
        difference, where = furthest(done.blobs, goldens.format_blobs(net))
    yield Recording(f"formats/{net}.npz", difference, tolerance("format-blobs"), where)


def record_sample(oracle: Oracle, *, out: Path) -> Recording:
    """Every blob of the bundled release on a part of its picture (BGR less the mean), as Caffe computes it."""
    recipe = fcn_port.load(SAMPLE / "shapes-fcn8s.caffemodel").preprocessing.inputs[0]
    picture = np.asarray(Image.open(SAMPLE / "shapes.png"))[SAMPLE_PART]
    data = (picture[..., ::-1] - np.asarray(recipe.mean)).transpose(2, 0, 1)[None].astype(np.float32)
    prototxt = (SAMPLE / "shapes-fcn8s.prototxt").read_text()
    done = oracle.forward(prototxt, weights=SAMPLE / "shapes-fcn8s.caffemodel", inputs={"data": data})
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / SAMPLE_GOLDEN.name, **done.blobs)  # type: ignore[arg-type]
    if not SAMPLE_GOLDEN.exists():
        return Recording(SAMPLE_GOLDEN.name, np.inf, 0.0, "new")
    with np.load(SAMPLE_GOLDEN) as committed:
        difference, where = furthest(done.blobs, dict(committed))
    return Recording(SAMPLE_GOLDEN.name, difference, tolerance("format-blobs"), where)


def compare_weights(oracle: Oracle, prototxt: str, path: Path) -> Recording:
    """A weights file with the committed one of the same name: by bytes, else blob by blob as Caffe reads them."""
    committed, name = GOLDEN / "formats" / path.name, f"formats/{path.name}"
    if not committed.exists():
        return Recording(name, np.inf, 0.0, "new")
    if committed.read_bytes() == path.read_bytes():
        return Recording(name, 0.0, 0.0)
    ours, theirs = (_flat(oracle.load(prototxt, file)) for file in (path, committed))
    difference, where = furthest(ours, theirs)
    return Recording(name, difference, 0.0, where or "same blobs, other bytes")


def furthest(
    blobs: Mapping[str, np.ndarray], golden: Mapping[str, BlobGolden] | Mapping[str, np.ndarray]
) -> tuple[float, str]:
    """The largest difference between blobs and their goldens, and the blob in which it is."""
    if list(blobs) != list(golden):
        return np.inf, f"other blobs: {sorted(set(blobs) ^ set(golden)) or 'in another order'}"
    worst, where = 0.0, ""
    for name, expected in golden.items():
        if tuple(blobs[name].shape) != tuple(expected.shape):
            return np.inf, f"{name} has another shape"
        difference = goldens.compare(blobs[name], expected)
        if not difference <= worst:
            worst, where = difference, name
    return worst, where


def _as_json(blob: BlobGolden) -> dict:
    return {
        "shape": list(blob.shape),
        "sum": blob.sum,
        "l2": blob.l2,
        "absmax": blob.absmax,
        "index": blob.index.tolist(),
        "value": blob.value.tolist(),
    }


def _flat(layers: Mapping[str, tuple[np.ndarray, ...]]) -> dict[str, np.ndarray]:
    return {f"{layer}/{i}": blob for layer, blobs in layers.items() for i, blob in enumerate(blobs)}


def record(oracle: Oracle, wanted: Set[str], prototxts: Mapping[str, str], *, out: Path) -> Iterator[Recording]:
    """Every golden whose name is wanted, those of golden/caffe where `prototxts` has their net."""
    for net, how in FORMATS.items():
        if net in wanted:
            yield from record_format(oracle, net, how, out=out)
    if "sample" in wanted:
        yield record_sample(oracle, out=out)
    if "solver-zoo" in wanted:
        for file, difference, where in record_zoo(oracle, out=out):
            yield Recording(file, difference, tolerance("oracle-live"), where)
    for name, recorded in (("losses", record_losses), ("fixed", record_fixed)):
        if name in wanted:
            difference, where = recorded(oracle, out=out)
            yield Recording(f"solver/{name}.npz", difference, tolerance("oracle-live"), where)
    if "shapes" in wanted:
        yield record_shapes(oracle, prototxts, out=out)
    for id_ in ids_among(wanted):
        if id_.net in prototxts:
            yield from record_pass(oracle, id_, prototxts[id_.net], out=out)


def ids_among(names: Set[str]) -> list[GoldenId]:
    """The names NET-HxW-FILL of forward passes, those that are not recorded yet too."""
    pattern = re.compile(rf"({'|'.join({*NETS, *goldens.shapes()})})-\d+x\d+-(bilinear|random)")
    return sorted(goldens.parse_id(name) for name in names if pattern.fullmatch(name))


def prototxts_for(wanted: Set[str], *, folder: Path | None) -> dict[str, str | None]:
    """The prototxt of each net of golden/caffe that a wanted golden needs."""
    nets = dict.fromkeys((*goldens.shapes(), *NETS) if "shapes" in wanted else ())
    nets.update(dict.fromkeys(id_.net for id_ in ids_among(wanted)))
    return {net: prototxt_of(net, folder=folder) for net in nets}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m parity_tests.oracle.record", description=__doc__)
    names = [*FORMATS, "sample", "solver-zoo", "losses", "fixed", "shapes", *map(str, goldens.golden_ids())]
    known = f"only these, or a new NET-HxW-FILL: {', '.join(names)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=known)
    parser.add_argument("--out", type=Path, default=PROJECT / ".oracle" / "golden", help="default: %(default)s")
    parser.add_argument("--prototxts", type=Path, help="folder with NET.prototxt to record instead of our own nets")
    parser.add_argument("--write", action="store_true", help="replace the committed files that differ")
    args = parser.parse_args()
    wanted = set(args.names or names)
    if unknown := wanted - set(names) - set(map(str, ids_among(wanted))):
        parser.error(f"no golden is called {', '.join(sorted(unknown))}")
    recordings = []
    try:
        found = prototxts_for(wanted, folder=args.prototxts)
        prototxts = {net: text for net, text in found.items() if text is not None}
        for recording in record(open_oracle(), wanted, prototxts, out=args.out):
            print(_line(recording), flush=True)
            recordings.append(recording)
    except OracleError as error:
        print(error, file=sys.stderr)
        return 1
    if len(prototxts) < len(found):
        missing = ", ".join(sorted(set(found) - set(prototxts)))
        print(f"not recorded, for want of a prototxt: {missing}", file=sys.stderr)
    worst = max((recording.difference for recording in recordings), default=0.0)
    print(f"{len(recordings)} files in {args.out}; the largest difference is {worst:.2g}")
    if args.write:
        for recording in recordings:
            if recording.difference:
                shutil.copyfile(args.out / recording.file, goldens.committed(recording.file))
    return 0 if all(recording.ok for recording in recordings) else 1


def _line(recording: Recording) -> str:
    verdict = "ok" if recording.ok else "FAILS"
    return f"{verdict:5} {recording.difference:8.2g}  {recording.file}  {recording.where}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
