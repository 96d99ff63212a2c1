"""The checksum CRC-32C, LevelDB's, of many bytes by NumPy. Source: RFC 3720, appendix B.4.

But for its first register the checksum is linear: the exclusive or of what each word of four bytes gives, moved on by
as many zeros as bytes stand behind it. So 64 bytes become a word by 64 numbers of tables; the words of all rows of 64
are a message a sixteenth as long, whose words are further apart; and so on until one word is left.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_POLYNOMIAL = 0x82F63B78
_WORDS = 16
_ROW = 4 * _WORDS
_PIECE = 1 << 14
"""Bytes that are looked up at once: their places take eight times as much, and are to stay in the processor's cache."""
_SHORT = 128
"""Bytes up to which a loop is as quick."""
_BITS = np.uint32(1) << np.arange(32, dtype=np.uint32)


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes."""
    if len(data) < _SHORT:
        return _moved(0xFFFFFFFF, data) ^ 0xFFFFFFFF
    rows = _rows(np.frombuffer(data, np.uint8), _ROW)
    first = rows.size - len(data)
    rows.reshape(-1)[first : first + 4] ^= 0xFF  # the register begins with ones
    level = 0
    while len(words := _words(rows, _tables(level))) > 1:
        rows = _rows(words, _WORDS).view(np.uint8)
        level += 1
    return _moved(int(words[0]), bytes(4)) ^ 0xFFFFFFFF


def _of_a_byte() -> list[int]:
    found = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        found = (found >> 1) ^ (found & 1) * np.uint32(_POLYNOMIAL)
    return [int(value) for value in found]


_OF_A_BYTE = _of_a_byte()


def _moved(register: int, data: bytes) -> int:
    """The register after some bytes."""
    for byte in data:
        register = _OF_A_BYTE[(register ^ byte) & 0xFF] ^ register >> 8
    return register


def _rows(values: np.ndarray, width: int) -> np.ndarray:
    """The values in rows, with zeros before them, which change nothing."""
    rows = np.zeros((-(-len(values) // width), width), values.dtype)
    rows.reshape(-1)[rows.size - len(values) :] = values
    return rows


def _words(rows: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """The word that each row of 64 bytes becomes."""
    found = np.empty(len(rows), "<u4")
    columns = np.arange(0, tables.size, 256)
    step = _PIECE // _ROW
    for start in range(0, len(rows), step):
        here = slice(start, start + step)
        found[here] = np.bitwise_xor.reduce(tables.reshape(-1).take(rows[here] + columns), axis=1)
    return found


@lru_cache
def _tables(level: int) -> np.ndarray:
    """Words (64, 256) that a byte at each place of a row gives, where words are 4 * 16 ** level bytes apart."""
    of_words = [_BITS]
    for _ in range(_WORDS - 1):
        of_words.insert(0, _applied(_step(level), of_words[0]))
    of_bits = np.concatenate(of_words).reshape(_ROW, 8)
    found = np.zeros((_ROW, 256), np.uint32)
    for bit in range(8):
        found[:, 1 << bit : 2 << bit] = found[:, : 1 << bit] ^ of_bits[:, bit : bit + 1]
    return found


@lru_cache
def _step(level: int) -> np.ndarray:
    """Words (32,) that each bit of a word becomes by 4 * 16 ** level zeros."""
    if level == 0:
        return np.array([_moved(1 << bit, bytes(4)) for bit in range(32)], np.uint32)
    found = _step(level - 1)
    for _ in range(4):
        found = _applied(found, found)
    return found


def _applied(of_bits: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Words as they become where each bit becomes one of `of_bits`."""
    return np.asarray(np.bitwise_xor.reduce(np.where(words[:, None] & _BITS, of_bits, np.uint32(0)), axis=1))
