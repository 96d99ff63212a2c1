"""Write down what `make sample` made: a card beside the weights, and their lines in the catalogue.

`python -m parity_tests.record_sample HELD_OUT` scores weights/sample/shapes-fcn8s.caffemodel on the images in that
folder, and says whether the weights are the ones that the catalogue had.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

import fcn_port
from fcn_port.data import open_dataset
from fcn_port.evaluation.running import evaluate
from fcn_port.training.recipe import find_recipe
from weights.records import METRICS

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"
CATALOGUE = ROOT / "weights" / "releases.toml"
RECIPE = "shapes-fcn8s"


def score(weights: Path, held_out: Path) -> dict[str, float]:
    """The four metrics of a net on all images of a folder, in percent with four decimals."""
    result = evaluate(fcn_port.load(weights), open_dataset(held_out, split="val"))
    scores = result.scores(result.tasks[0])
    return {metric: round(100 * getattr(scores, metric), 4) for metric in METRICS}


def card(weights: Path, held_out: Path, scores: dict[str, float]) -> dict[str, object]:
    """What there is to say of the weights: how they were made, from what, with what, and what they score."""
    recipe = find_recipe(RECIPE)
    return {
        "made_by": "make sample",
        "recipe": f"fcn_port/training/recipes/{RECIPE}.toml",
        "seed": recipe.seed,
        "updates": recipe.solver.max_iter,
        "threads": 1,
        "learned_from": "1200 images of 240x320, fcn-port data shapes, seed 1",
        "scored_on": f"{len(open_dataset(held_out, split='val').ids)} images of 240x320, fcn-port data shapes, seed 2",
        "scores": scores,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "versions": {name: version(name) for name in ("torch", "numpy", "Pillow")},
        "python": platform.python_version(),
        "processor": platform.machine(),
    }


def with_entry(catalogue: str, *, size: int, sha256: str, scores: dict[str, float]) -> str:
    """The text of the catalogue with the numbers of [bundled.sample] replaced."""
    before, heading, rest = catalogue.partition("[bundled.sample]\n")
    entry, following, after = rest.partition("\n[init.")
    for name, value in {"size": str(size), "sha256": f'"{sha256}"', **{k: str(v) for k, v in scores.items()}}.items():
        entry, replaced = re.subn(rf"^{name} = .*$", f"{name} = {value}", entry, flags=re.MULTILINE)
        if replaced != 1:
            raise ValueError(f"{CATALOGUE}: [bundled.sample] has {replaced} lines '{name} = ', 1 is expected")
    return before + heading + entry + following + after


def main() -> int:
    held_out = Path(sys.argv[1])
    scores = score(WEIGHTS, held_out)
    found = card(WEIGHTS, held_out, scores)
    WEIGHTS.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    earlier = CATALOGUE.read_text(encoding="utf-8")
    now = with_entry(earlier, size=WEIGHTS.stat().st_size, sha256=str(found["sha256"]), scores=scores)
    CATALOGUE.write_text(now, encoding="utf-8")
    print(", ".join(f"{METRICS[name]} {value:.2f}" for name, value in scores.items()))
    if str(found["sha256"]) in earlier:
        print("the weights are the recorded ones, to the last bit")
    else:
        print(
            "the weights are others than before; weights/releases.toml says so now. Their golden is to be recorded "
            "again:\n  make caffe-oracle && python -m parity_tests.oracle.record sample --write"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
