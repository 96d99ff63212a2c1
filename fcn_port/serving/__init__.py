"""A net behind an address: a page where one drops an image, and an HTTP interface.

records.py     limits, and what is told of the net
seeing.py      the net as a function from images to what it sees
batching.py    images that wait, taken together where their sizes are equal
frames.py      failures that keep no image alive
uploads.py     the image in a request, within the limits
answers.py     what the net sees as JSON, PNG and COCO's results
page.py        the page
guard.py       who may ask: names of the host, and pages of others
metrics.py     counts and times in Prometheus's text form
app.py         the application, for any ASGI server
running.py     uvicorn, and a graceful stop
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .app import make_app
    from .records import ServerLimits
    from .running import open_socket, run_app

__all__ = ["ServerLimits", "make_app", "open_socket", "run_app"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {"ServerLimits": "records", "make_app": "app", "open_socket": "running", "run_app": "running"},
)
