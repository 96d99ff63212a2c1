"""Run the notebooks, each in a folder and a kernel of its own; with --write, keep what they show (`make notebooks`).

They share a new cache, so that what is compiled is compiled as a new user has it, once.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
SECONDS = 600
"""The most that a cell may take; a machine under load needs it, a quiet one some seconds."""


def main(arguments: list[str] | None = None) -> int:
    """Status 0, or 1 where a cell raises."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.notebooks", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep what the cells show")
    options = parser.parse_args(arguments)
    failed = 0
    with tempfile.TemporaryDirectory() as cache:
        for path in sorted(FOLDER.glob("*.ipynb")):
            problem = run(path, cache, write=options.write)
            print(f"{path.relative_to(ROOT)}: {problem or 'ran'}", flush=True)
            failed += problem is not None
    return 1 if failed else 0


def run(path: Path, cache: str, *, write: bool) -> str | None:
    """Run a notebook; what a cell raised, or None. The outputs are kept without what differs from run to run."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as away:
        environ = {**os.environ, "FCN_PORT_WEIGHTS": f"{away}/weights", "XDG_CACHE_HOME": cache}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        client = NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": away}}
        )
        try:
            client.execute(env=environ)
        except CellExecutionError as error:
            return str(error)
    if write:
        for cell in notebook.cells:
            tidy(cell)
        notebook.metadata.pop("language_info", None)
        nbformat.write(notebook, path)
    return None


def tidy(cell: Any) -> None:
    """Streams as one, pictures as PNG only, and no times."""
    cell.metadata.clear()
    if cell.cell_type != "code":
        return
    kept: list[Any] = []
    for output in cell.outputs:
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
            continue
        if "data" in output:
            output.data.pop("image/jpeg", None)
        kept.append(output)
    cell.outputs = kept


if __name__ == "__main__":
    sys.exit(main())
