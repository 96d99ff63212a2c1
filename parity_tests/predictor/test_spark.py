"""The block of docs/scale.md under Spark on this machine, where Spark and Java are."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from parity_tests.cluster.pictures import SAMPLE, folder_of
from parity_tests.test_architecture import ROOT

sql = pytest.importorskip("pyspark.sql", reason="Spark, which the tests do without")


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark runs in Java")
def test_the_block_of_the_docs_sees_every_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8").partition("## Spark")[2]
    (block,) = re.findall(r"(?s)```python\n(.*?)```", text)
    assert block.count('"voc-fcn8s"') == 1 and block.count('"results.parquet"') == 1
    block = block.replace('"voc-fcn8s"', repr(str(SAMPLE))).replace("results.parquet", str(tmp_path / "out"))
    paths = sorted(map(str, folder_of(tmp_path / "images", 5).iterdir()))
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    spark = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        exec(block, {"spark": spark, "paths": paths})
        rows = {row["path"]: row for row in spark.read.parquet(str(tmp_path / "out")).collect()}
    finally:
        spark.stop()
    assert sorted(rows) == paths
    for path, row in rows.items():
        broken = path.endswith("broken.png")
        assert ("not an image" in row["problem"]) is broken
        assert row["shares"] == "" if broken else sum(json.loads(row["shares"]).values()) == pytest.approx(1)
