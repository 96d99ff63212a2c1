"""A page to look at: a net's trace, its parity with Caffe, and what it scores, in one HTML file without network."""

from .page import Page, to_html

__all__ = ["Page", "to_html"]
