"""A net as a PyTorch module: what it computes, and its weights by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays import to_array
from ..lazy import lazy_attributes

if TYPE_CHECKING:
    from .by_name import ByAnyName
    from .caffe_net import CaffeNet
    from .indices import indices_within
    from .input_misfit import misfit, refuse_no_numbers, wrong_inputs
    from .loading import load_state_dict, state_misfit
    from .replicas import replica
    from .state_dict import Coverage, cover, from_state_dict, key_of, split_key, to_arrays, to_state_dict
    from .varying import check_fit

__all__ = [
    "ByAnyName",
    "CaffeNet",
    "Coverage",
    "check_fit",
    "cover",
    "from_state_dict",
    "indices_within",
    "key_of",
    "load_state_dict",
    "misfit",
    "refuse_no_numbers",
    "replica",
    "split_key",
    "state_misfit",
    "to_array",
    "to_arrays",
    "to_state_dict",
    "wrong_inputs",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "ByAnyName": "by_name",
        "CaffeNet": "caffe_net",
        "check_fit": "varying",
        **dict.fromkeys(("Coverage", "cover"), "state_dict"),
        "from_state_dict": "state_dict",
        "indices_within": "indices",
        "key_of": "state_dict",
        "load_state_dict": "loading",
        "state_misfit": "loading",
        "replica": "replicas",
        "split_key": "state_dict",
        "to_arrays": "state_dict",
        "to_state_dict": "state_dict",
        **dict.fromkeys(("misfit", "refuse_no_numbers", "wrong_inputs"), "input_misfit"),
    },
)
