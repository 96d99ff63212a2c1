"""A net as a model hub has it: weights, config, ONNX, a model card and a recorded pass, checked when read.

records.py      config.json
writing.py      a folder made of a release or a file, whole or not there
model_card.py   README.md: where the net is from, what was verified, how to use and cite it
folder.py       a folder read: digests, and the recorded pass given again
hub.py          "hf:owner/name" brought from a hub
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .folder import checked_folder
    from .hub import fetch_from_hub, is_on_hub
    from .records import PublishedNet, is_published
    from .writing import publish

__all__ = ["PublishedNet", "checked_folder", "fetch_from_hub", "is_on_hub", "is_published", "publish"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "PublishedNet": "records",
        "checked_folder": "folder",
        "fetch_from_hub": "hub",
        "is_on_hub": "hub",
        "is_published": "records",
        "publish": "writing",
    },
)
