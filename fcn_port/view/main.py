"""The adapter by which Model Explorer opens Caffe's files: `model-explorer --extensions=fcn_port.view x.prototxt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_explorer import Adapter, AdapterMetadata, ModelExplorerGraphs, graph_builder

from converters.formats import read_caffemodel, read_prototxt, sniff
from converters.passes import prepare

from .graph import to_graph


class CaffeAdapter(Adapter):  # type: ignore[misc]
    """Caffe's definitions, and its weights where the net is in them."""

    metadata = AdapterMetadata(
        id="fcn-port-caffe",
        name="Caffe (fcn-port)",
        description="Caffe nets: layers, shapes, settings and work",
        source_repo="",
        fileExts=["prototxt", "pbtxt", "caffemodel"],
    )

    def convert(self, model_path: str, settings: dict[str, Any]) -> ModelExplorerGraphs:
        """The graph of a file; raises CaffeFormatError, whose text the page shows."""
        path = Path(model_path)
        if sniff.sniff_file(path) == sniff.TEXT:
            spec = prepare(read_prototxt(path))
        else:
            model = read_caffemodel(path)
            if model.spec is None:
                raise ValueError(f"{path.name}: this file holds weights and no net")
            spec = prepare(model.spec, blobs=model.blobs)
        return {"graphs": [_made(to_graph(spec, dict(spec.inputs), name=path.name))]}


def _made(graph: dict[str, Any]) -> Any:
    """The graph in Model Explorer's own records."""
    builder = graph_builder

    def pairs(found: list[dict[str, str]]) -> list[Any]:
        return [builder.KeyValue(**each) for each in found]

    def metadata(found: list[dict[str, Any]]) -> list[Any]:
        return [builder.MetadataItem(each["id"], pairs(each["attrs"])) for each in found]

    nodes = [
        builder.GraphNode(
            id=each["id"],
            label=each["label"],
            namespace=each["namespace"],
            attrs=pairs(each["attrs"]),
            incomingEdges=[builder.IncomingEdge(**edge) for edge in each["incomingEdges"]],
            inputsMetadata=metadata(each["inputsMetadata"]),
            outputsMetadata=metadata(each["outputsMetadata"]),
        )
        for each in graph["nodes"]
    ]
    return builder.Graph(graph["id"], nodes)
