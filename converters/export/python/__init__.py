"""A net as Python source: a standalone nn.Module that needs nothing but torch and reads as if written by hand.

    NetSpec -> statements (program.py) -> folded and named (source.py) -> lines (text.py)

Each layer writes itself, by `to_python`, in the words of converters/net/python_form.py; helpers.py and
converters/layers/functions.py have what only Caffe does.
"""

from ...net.python_form import Form, Site
from .form import form
from .source import class_name, python_source

__all__ = ["Form", "Site", "class_name", "form", "python_source"]
