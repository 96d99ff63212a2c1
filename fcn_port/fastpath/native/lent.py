"""The C code that layers compute by where `fast` leaves them to their own functions."""

from converters.layers import lent

from .regions import pool_regions
from .suppression import suppress

LENT = lent.LentCode(suppress, pool_regions)
