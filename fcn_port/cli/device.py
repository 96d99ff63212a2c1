"""The option --device, shared by the verbs that compute."""

from __future__ import annotations

from typing import Any

import click

device_option = click.option(
    "--device", default="cpu", show_default=True, help="Where to compute: cpu, cuda, cuda:1, mps."
)


def find_device(name: str) -> Any:
    """The torch.device called `name`, tried out; a usage error where there is none."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise click.BadParameter(f"'{name}' cannot be used here: {reason}", param_hint="'--device'") from error
    if device.type == "meta":
        raise click.BadParameter(f"'{name}' holds shapes and no numbers", param_hint="'--device'")
    return device
