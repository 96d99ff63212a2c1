"""Words of servers, proxies and libraries made safe for a message: no password, nothing that a terminal obeys."""

from __future__ import annotations

import re
from urllib.parse import unquote

from converters.escaping import terminal

MOST = 300
"""Characters of a stranger's text in one message."""

_USERINFO = re.compile(
    r"//(?:[^\s/?#]*@"  # as RFC 3986 has it: all before the last @ of the authority
    r"|[^\s/?#@:\[]+:(?!\d{1,5}[/?#])\S*@)"  # a password with an unescaped slash: what follows the colon is no port
)


def redacted(text: str) -> str:
    """A text without the user names and passwords in its addresses, nor those of the environment's proxies."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _USERINFO.sub("//***@", text)


def shown(said: object, *, most: int = MOST) -> str:
    """A stranger's words, on one line of at most about `most` characters, without passwords."""
    text = terminal(redacted(str(said)))
    return text if len(text) <= most else f"{text[:most]}..."


def _secrets() -> set[str]:
    """Names with passwords, and passwords, of the proxies; error texts quote the pieces of what cannot be parsed."""
    from urllib.request import getproxies  # brings HTTP and TLS, which most verbs do without

    found = set()
    for address in getproxies().values():
        user, at, _ = address.partition("//")[2].rpartition("@") if "//" in address else address.rpartition("@")
        password = user.partition(":")[2]
        if at:
            found |= {f"{user}@", user if password else "", *_forms(password)}
    return found - {""}


def _forms(password: str) -> set[str]:
    """A password as it was written and as it was meant; one of a letter or two would be found in every text."""
    return {each for each in (password, unquote(password)) if len(each) > 2}
