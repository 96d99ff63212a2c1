"""The old name of `fcn_port.predict` and `fcn_port.fastpath`, for one release."""

import warnings

from ..fastpath import engines, lossless
from ..predict import Segmentation, segment, segment_all

__all__ = ["Segmentation", "engines", "lossless", "segment", "segment_all"]

warnings.warn("fcn_port.inference is now fcn_port.predict and fcn_port.fastpath", DeprecationWarning, stacklevel=2)
