"""The card of a net: what a converted file says besides the weights, in the metadata of the safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from converters.errors import place
from converters.escaping import json_text
from converters.safety import parse_json, read_json, to_record

from .records import Augmentation, Preprocessing, Release, check_palette
from .texts import mentions


@dataclass(frozen=True)
class Card:
    """Release and net names, how inputs are made, class names by output blob, and the palette of label maps.

    `void` are labels that did not count when the net was trained, beside IGNORE_LABEL; `augmentation` is how its images
    were varied.

    Everything may be unknown: a file that somebody converted from a net of their own has an empty card.
    """

    release: str | None = None
    net: str | None = None
    preprocessing: Preprocessing | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    palette: str | None = None
    licence: str | None = None
    void: tuple[int, ...] = ()
    augmentation: Augmentation | None = None

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
        if not mentions(name):  # most files are nobody's release, and the catalogue takes a while to read
            return cls()
        from .catalogue import bundled, releases

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
        found = read_json(record)
        card = found.get("card") if isinstance(found, dict) else None
        return cls.from_metadata(card) if isinstance(card, dict) else own

    def to_metadata(self) -> dict[str, str]:
        """Strings by name, as safetensors takes them; what is unknown is left out."""
        found = {"release": self.release, "net": self.net, "palette": self.palette, "licence": self.licence}
        if self.preprocessing is not None:
            found["preprocessing"] = json_text(self.preprocessing.to_json())
        if self.classes:
            found["classes"] = json_text(dict(self.classes))
        if self.void:
            found["void"] = json_text(list(self.void))
        if self.augmentation is not None:
            found["augmentation"] = json_text(asdict(self.augmentation))
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def from_metadata(cls, metadata: Any) -> Card:
        """The card that `to_metadata` wrote, from metadata that may hold other things too.

        Raises CaffeFormatError, which is a ValueError, if it is damaged.
        """
        found = to_record(metadata, _Metadata, ignore_unknown=True)
        if found.palette is not None:
            check_palette(found.palette)
        inputs, classes = _parsed("preprocessing", found.preprocessing), _parsed("classes", found.classes)
        void, varied = _parsed("void", found.void), _parsed("augmentation", found.augmentation)
        return cls(
            release=found.release,
            net=found.net,
            preprocessing=None if inputs is None else Preprocessing.from_json(inputs),
            classes={} if classes is None else to_record(classes, dict[str, tuple[str, ...]], where="classes"),
            palette=found.palette,
            licence=found.licence,
            void=() if void is None else to_record(void, tuple[int, ...], where="void"),
            augmentation=None if varied is None else to_record(varied, Augmentation, where="augmentation"),
        )


@dataclass(frozen=True)
class _Metadata:
    """A card in strings, four of which are JSON."""

    release: str | None = None
    net: str | None = None
    preprocessing: str | None = None
    classes: str | None = None
    palette: str | None = None
    licence: str | None = None
    void: str | None = None
    augmentation: str | None = None


def _parsed(name: str, text: str | None) -> Any:
    """The JSON in a string of the metadata; None if there is none."""
    with place(name):
        return None if text is None else parse_json(text)
