"""A net as Python source: a standalone nn.Module that needs nothing but torch and reads as if written by hand.

    NetSpec -> statements (program.py) -> folded and named (source.py) -> lines (text.py)

How layers are written is in learned.py and fixed.py, in the words of form.py; helpers.py has what only Caffe does.
"""

from . import fixed, learned
from .form import Form, Site, form
from .source import class_name, python_source

__all__ = ["Form", "Site", "class_name", "fixed", "form", "learned", "python_source"]
