"""What a converted file says of its net besides the weights: it travels in the metadata of the safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .catalogue import bundled, releases
from .records import Preprocessing, Release


@dataclass(frozen=True)
class Card:
    """Release and net names, how inputs are made, class names by output blob, and the palette of label maps.

    Everything may be unknown: a file that somebody converted from a net of their own has an empty card.
    """

    release: str | None = None
    net: str | None = None
    preprocessing: Preprocessing | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    palette: str | None = None
    licence: str | None = None

    @classmethod
    def of(cls, release: Release) -> Card:
        """The card of a published release."""
        return cls(
            release=release.name,
            net=release.net,
            preprocessing=release.preprocessing,
            classes=dict(release.classes),  # a plain one: nets that carry it can be copied
            palette=release.dataset.palette,
            licence=f"{release.licence.name}. {release.licence.attribution}",
        )

    @classmethod
    def of_file(cls, name: str) -> Card:
        """The card of the release whose caffemodel is called `name`, empty if there is none."""
        known = [release for release in (*releases().values(), *bundled().values()) if release.file == name]
        return cls.of(known[0]) if known else cls()

    @classmethod
    def beside(cls, path: Path) -> Card:
        """The card of a caffemodel: that of the release whose file has this name, or the one in a .json beside it.

        `fcn-port train` writes such a .json with each snapshot. ValueError where it is damaged.
        """
        own = cls.of_file(path.name)
        record = path.with_suffix(".json")
        if own != cls() or not record.is_file():
            return own
        found = json.loads(record.read_text(encoding="utf-8"))
        card = found.get("card") if isinstance(found, dict) else None
        return cls.from_metadata(card) if isinstance(card, dict) else own

    def to_metadata(self) -> dict[str, str]:
        """Strings by name, as safetensors takes them; what is unknown is left out."""
        found = {"release": self.release, "net": self.net, "palette": self.palette, "licence": self.licence}
        if self.preprocessing is not None:
            found["preprocessing"] = json.dumps(self.preprocessing.to_json())
        if self.classes:
            found["classes"] = json.dumps(dict(self.classes))
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Card:
        """The card that `to_metadata` wrote, from metadata that may hold other things too; ValueError if damaged."""
        inputs, classes = metadata.get("preprocessing"), json.loads(metadata.get("classes", "{}"))
        if not isinstance(classes, dict) or not all(isinstance(names, list) for names in classes.values()):
            raise ValueError(f"classes is a table of lists by output blob, not {classes!r}")
        return cls(
            release=metadata.get("release"),
            net=metadata.get("net"),
            preprocessing=None if inputs is None else Preprocessing.from_json(json.loads(inputs)),
            classes={blob: tuple(map(str, names)) for blob, names in classes.items()},
            palette=metadata.get("palette"),
            licence=metadata.get("licence"),
        )
