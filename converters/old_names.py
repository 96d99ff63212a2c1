"""Modules under the names of version 0.1.0: for one release they import still, with a DeprecationWarning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def keep_old_names(names: Mapping[str, str]) -> None:
    """Let `import OLD` give the module NEW, for each pair of dotted names."""
    sys.meta_path.insert(0, _OldNames(names))


class _OldNames(MetaPathFinder):
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        new = self._names.get(fullname)
        return None if new is None else ModuleSpec(fullname, _Moved(new))


class _Moved(Loader):
    """Gives the module under its new name; its own spec stays as it is."""

    def __init__(self, new: str) -> None:
        self._new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warnings.warn(f"{spec.name} is now {self._new}", DeprecationWarning, stacklevel=2)
        module = import_module(self._new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


CONVERTERS = {
    "converters.allocation": "converters.safety.allocation",
    "converters.bilinear": "converters.layers.bilinear",
    "converters.binaryproto": "converters.formats.binaryproto",
    "converters.blob": "converters.formats.blob",
    "converters.budget": "converters.formats.budget",
    "converters.caffe_net": "converters.execution.caffe_net",
    "converters.caffemodel": "converters.formats.caffemodel",
    "converters.coord_map": "converters.net.coord_map",
    "converters.export.check": "converters.export.checking",
    "converters.files": "converters.safety.files",
    "converters.fitting": "converters.passes.input_size",
    "converters.fork_text": "converters.formats.fork_fields",
    "converters.hdf5": "converters.formats.hdf5",
    "converters.hdf5_file": "converters.formats.hdf5_file",
    "converters.inputs": "converters.passes.inputs",
    "converters.json_file": "converters.safety.json_file",
    "converters.layers.columns": "converters.layers.im2col",
    "converters.layers.reach": "converters.net.reach",
    "converters.limits": "converters.safety.limits",
    "converters.memory": "converters.net.aliasing",
    "converters.nested": "converters.formats.nested",
    "converters.prototxt": "converters.formats.prototxt",
    "converters.replica": "converters.execution.replicas",
    "converters.shapes": "converters.net.shapes",
    "converters.sharing": "converters.net.parameter_sharing",
    "converters.sniff": "converters.formats.sniff",
    "converters.solverstate": "converters.formats.solverstate",
    "converters.state_dict": "converters.execution.state_dict",
    "converters.text_format": "converters.formats.text_format",
    "converters.text_syntax": "converters.formats.text_syntax",
    "converters.unknown": "converters.formats.unknown_fields",
    "converters.upgrade": "converters.formats.upgrade",
    "converters.upgrade_v0": "converters.formats.upgrade_v0",
    "converters.validate": "converters.net.validate",
    "converters.wire": "converters.formats.wire",
}

WEIGHTS = {
    "weights.alone": "weights.download.lock",
    "weights.connection": "weights.download.connection",
    "weights.digests": "weights.download.digests",
    "weights.partial": "weights.download.partial",
    "weights.patience": "weights.download.retry_policy",
    "weights.progress": "weights.download.progress",
    "weights.prototxt": "weights.download.prototxt",
    "weights.transfer": "weights.download.transfer",
    "weights.verify": "weights.download.verify",
    "weights.wording": "weights.download.wording",
}
