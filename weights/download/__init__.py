"""Releases over the network: resumable, verified, and whole or not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .digests import RunningDigests
    from .fetching import FetchPlan, FetchResult, fetch, is_offline, plan
    from .lock import locked, sweep
    from .mirror import addresses
    from .partial import Partial
    from .progress import Callback, Meter, Progress, human_bytes
    from .prototxt import fetch_prototxt
    from .release import NoAddressWorked, download
    from .retry_policy import RetryPolicy
    from .transfer import TransferJob
    from .verify import Wanted, WrongFile, judge
    from .wording import shown

__all__ = [
    "Callback",
    "FetchPlan",
    "FetchResult",
    "Meter",
    "NoAddressWorked",
    "Partial",
    "Progress",
    "RetryPolicy",
    "RunningDigests",
    "TransferJob",
    "Wanted",
    "WrongFile",
    "addresses",
    "download",
    "fetch",
    "fetch_prototxt",
    "human_bytes",
    "is_offline",
    "judge",
    "locked",
    "plan",
    "shown",
    "sweep",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Callback": "progress",
        "FetchPlan": "fetching",
        "FetchResult": "fetching",
        "TransferJob": "transfer",
        "Meter": "progress",
        "NoAddressWorked": "release",
        "Partial": "partial",
        "RetryPolicy": "retry_policy",
        "Progress": "progress",
        "RunningDigests": "digests",
        "Wanted": "verify",
        "WrongFile": "verify",
        "addresses": "mirror",
        "locked": "lock",
        "download": "release",
        "fetch": "fetching",
        "fetch_prototxt": "prototxt",
        "human_bytes": "progress",
        "is_offline": "fetching",
        "judge": "verify",
        "plan": "fetching",
        "shown": "wording",
        "sweep": "lock",
    },
    renamed={"Job": "TransferJob"},
)
