"""What keeps a stranger's file and a shared folder from doing harm: files, limits and JSON."""

from __future__ import annotations

from .files import (
    append,
    complete,
    fresh_file,
    fresh_folder,
    is_own,
    naming,
    open_file,
    open_own,
    open_part,
    remove_abandoned,
    unlinked,
    whole_file,
    write_whole,
)
from .json_file import parse_json, read_json
from .limits import VARIABLE, check_limit, check_memory, memory_limit, scaled

__all__ = [
    "VARIABLE",
    "append",
    "check_limit",
    "check_memory",
    "complete",
    "fresh_file",
    "fresh_folder",
    "is_own",
    "memory_limit",
    "naming",
    "open_file",
    "open_own",
    "open_part",
    "parse_json",
    "read_json",
    "remove_abandoned",
    "scaled",
    "unlinked",
    "whole_file",
    "write_whole",
]
