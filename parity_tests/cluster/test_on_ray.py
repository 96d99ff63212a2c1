"""A cluster of two nodes on this machine: every image once, also where a worker is killed: `make test-ray`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fcn_port.cli import run
from fcn_port.cluster import Results, Worker, plan
from fcn_port.cluster.planning import as_columns
from fcn_port.predictor import Predictor
from parity_tests.cluster.pictures import SAMPLE, folder_of, png, tar_of
from parity_tests.test_architecture import ROOT

pytestmark = pytest.mark.ray

IMAGES = 60
MINUTES = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with one core each."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    from ray.cluster_utils import Cluster

    memory = 80 << 20
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": memory})
    made.add_node(num_cpus=1, object_store_memory=memory)
    yield made
    made.shutdown()


def begin(cluster: Any, images: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fcn_port", "predict", str(SAMPLE), str(images), "-o", str(out)]
    return subprocess.Popen(
        [*command, "--ray", cluster.address], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def workers_of(cluster: Any) -> list[int]:
    """The processes with a net: children of this cluster's nodes that Ray calls so."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and "MapWorker" in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def kill_one_in_the_middle(cluster: Any, out: Path, running: subprocess.Popen[str]) -> None:
    """Kill a worker when the first block is done."""
    end = time.monotonic() + 3 * MINUTES
    while time.monotonic() < end:
        if running.poll() is not None:
            pytest.fail(f"it ended before: {running.communicate()}")
        done = len(list(Results(out).folder.glob("*.jsonl")))
        if done and (workers := workers_of(cluster)):
            assert done < IMAGES // 2
            os.kill(workers[0], signal.SIGKILL)
            return
        time.sleep(0.02)
    pytest.fail("no block was done in three minutes")


def rows_of(out: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(Results(out).table).to_pylist()


def test_every_image_once_though_a_worker_is_killed(cluster: Any, tmp_path: Path) -> None:
    images = folder_of(tmp_path / "images", IMAGES, size=(90, 120))
    out, plain = tmp_path / "out", tmp_path / "plain"
    running = begin(cluster, images, out)
    kill_one_in_the_middle(cluster, out, running)
    said, told = running.communicate(timeout=5 * MINUTES)
    assert running.returncode == 1, told  # one image is none
    assert "broken.png: not an image" in told and f"{IMAGES} of {IMAGES + 1} images" in said
    rows = rows_of(out)
    assert sorted(row["name"] for row in rows) == sorted([*map(str, range(IMAGES)), "broken"])
    assert [row["name"] for row in rows if row["problem"]] == ["broken"]
    assert run(["predict", str(SAMPLE), str(images), "-o", str(plain)]) == 1
    written = {path.name for path in out.iterdir()} - {"results.parquet", ".parts"}
    assert written == {path.name for path in plain.iterdir()}
    for name in written:
        assert (out / name).read_bytes() == (plain / name).read_bytes()
    assert not [*Results(out).folder.glob("*.jsonl"), *Results(out).folder.glob("begun-*")]


@pytest.mark.parametrize(("ending", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_run_that_was_ended_goes_on_where_it_was(cluster: Any, tmp_path: Path, ending: int, status: int) -> None:
    images = folder_of(tmp_path / "images", IMAGES, size=(90, 120))
    out = tmp_path / "out"
    running = begin(cluster, images, out)
    while not (parts := list(Results(out).folder.glob("*.jsonl"))):
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    running.send_signal(ending)
    _, told = running.communicate(timeout=MINUTES)
    assert running.returncode == status and "Traceback" not in told
    before = {path: path.stat().st_mtime_ns for path in parts}
    names = {path.name.partition("-")[2].removesuffix(".jsonl") for path in before}
    labels = {name: (out / f"{name}.labels.png").stat().st_mtime_ns for name in names if name != "broken"}
    again = begin(cluster, images, out)
    _, told = again.communicate(timeout=5 * MINUTES)
    assert again.returncode == 1 and " 0 done before" not in told
    assert {name: (out / f"{name}.labels.png").stat().st_mtime_ns for name in labels} == labels
    assert sorted(row["name"] for row in rows_of(out)) == sorted([*map(str, range(IMAGES)), "broken"])


def test_tables_and_tars_are_read(cluster: Any, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = [png(i) for i in range(6)]
    (tmp_path / "in").mkdir()
    tar_of(tmp_path / "in" / "a.tar", {"x.png": raw[0], "bad.png": b""})
    pq.write_table(pa.table({"image": [{"bytes": each, "path": None} for each in raw]}), tmp_path / "in" / "b.parquet",
                   row_group_size=4)  # fmt: skip
    out = tmp_path / "out"
    running = begin(cluster, tmp_path / "in", out)
    _, told = running.communicate(timeout=5 * MINUTES)
    assert running.returncode == 1, told
    rows = {row["name"]: row for row in rows_of(out)}
    assert set(rows) == {"a/x", "a/bad", *(f"b/b-{i}" for i in range(6))}
    assert [name for name, row in rows.items() if row["problem"]] == ["a/bad"]
    assert rows["b/b-0"]["found"] == rows["a/x"]["found"] and rows["b/b-0"]["height"] == 40


def test_table_of_paths_and_tables_that_are_none(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder_of(tmp_path / "i", 2)
    pq.write_table(pa.table({"path": ["i/0.png", "i/1.png"], "label": [1, 2]}), tmp_path / "paths.parquet")
    assert [item.name for item in plan([tmp_path / "paths.parquet"])] == ["0", "1"]
    pq.write_table(pa.table({"label": [1, 2]}), tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    for name, said in (("none", "no column of images"), ("bad", "not a Parquet table")):
        with pytest.raises(ValueError, match=said):
            plan([tmp_path / f"{name}.parquet"])


def test_image_that_was_done_twice_has_the_row_of_the_last_time(tmp_path: Path) -> None:
    """Between runs, and of runs that were ended before they gathered."""
    images, results = folder_of(tmp_path / "images", 2), Results(tmp_path / "out")
    worker = Worker(Predictor(SAMPLE), tmp_path / "out", run=results.next_run())
    worker(as_columns(plan([images])))
    assert results.gather() == 3 and results.done() == {"0", "1"} and results.gather() == 3
    (images / "broken.png").write_bytes(png(5))
    for _ in range(2):
        worker = Worker(Predictor(SAMPLE), tmp_path / "out", run=results.next_run())
        worker(as_columns(plan([images / "broken.png"])))
    assert results.gather() == 3
    rows = rows_of(tmp_path / "out")
    assert sorted(row["name"] for row in rows) == ["0", "1", "broken"] and not any(row["problem"] for row in rows)


@pytest.mark.parametrize("columns", [{"x": [1]}, {"name": ["0"], "problem": [None]}, {"name": [1], "problem": [None]}])
def test_a_table_of_somebodys_own_is_neither_read_nor_replaced(
    columns: dict[str, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images, table = folder_of(tmp_path / "images", 1), tmp_path / "out" / "results.parquet"
    table.parent.mkdir()
    pq.write_table(pa.table(columns), table)
    before = table.read_bytes()
    assert run(["predict", str(SAMPLE), str(images), "-o", str(table.parent), "--ray", "local"]) == 3
    assert "results.parquet: not a table of results of --ray" in capsys.readouterr().err
    assert table.read_bytes() == before


def test_no_cluster_at_an_address_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = folder_of(tmp_path / "images", 1)
    given = ["predict", str(SAMPLE), str(images), "-o", str(tmp_path / "out"), "--ray", "nowhere"]
    assert run(given) == 1
    assert "no Ray cluster at 'nowhere'" in capsys.readouterr().err
