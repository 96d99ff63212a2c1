"""`form.register`, by which a type was given its Python form up to 0.1; a Layer says it in `to_python` now."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

from ...net.python_form import Form, Site

Written = TypeVar("Written", bound=Callable[[Any, Site], Form])


class form:
    """The former register of Python forms; for one release it fills in `to_python`, with a DeprecationWarning."""

    @staticmethod
    def register(function: Written) -> Written:
        """Make `function(params, site)` the form of the type that annotates `params`."""
        warnings.warn("form.register is now the method to_python of the layer", DeprecationWarning, stacklevel=2)
        hints = get_type_hints(function)
        layer_class: Any = next(hints[name] for name in function.__code__.co_varnames if name in hints)
        layer_class.to_python = lambda layer, site: function(layer, site)
        return function
