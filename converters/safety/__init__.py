"""Guards against a stranger's file and a shared folder: files, digests, limits, JSON and records."""

from __future__ import annotations

from .allocation import enough_memory, machine_memory, refused_memory
from .digest import sha256_beside, sha256_of
from .files import (
    append,
    complete,
    fresh_file,
    fresh_folder,
    is_one_of,
    is_own,
    make_folder,
    naming,
    open_own,
    open_part,
    remove_abandoned,
    remove_parts,
    unlinked,
    whole_file,
    write_whole,
)
from .json_file import parse_json, read_json
from .limits import VARIABLE, check_limit, check_memory, memory_limit, scaled
from .lines import lines_of, read_lines
from .opening import open_file
from .records import to_record
from .utf8 import is_utf8, path_text, utf8_path
from .written import file_version
from .zips import entries_share_bytes

__all__ = [
    "VARIABLE",
    "append",
    "check_limit",
    "check_memory",
    "complete",
    "enough_memory",
    "entries_share_bytes",
    "file_version",
    "fresh_file",
    "fresh_folder",
    "is_one_of",
    "is_own",
    "is_utf8",
    "lines_of",
    "machine_memory",
    "make_folder",
    "memory_limit",
    "naming",
    "open_file",
    "open_own",
    "open_part",
    "parse_json",
    "path_text",
    "read_json",
    "read_lines",
    "refused_memory",
    "remove_abandoned",
    "remove_parts",
    "scaled",
    "sha256_beside",
    "sha256_of",
    "to_record",
    "unlinked",
    "utf8_path",
    "whole_file",
    "write_whole",
]
