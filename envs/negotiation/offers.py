"""The grammar of negotiation: what may be said, and what is wrong with what was said.

One action is one line::

    action  := act [ ":" message ]
    act     := "offer" "[" terms "]" | "select" "[" terms "]" | "select" "[" "no agreement" "]"
             | "accept" | "reject" | "walk away" | "say" | "yes" | "no"
    terms   := amount | name "=" value { blank-or-comma name "=" value }
    amount  := digits [ "." digit [ digit ] ]

Letters' case and blanks around the parts do not matter; anything else does. Which acts are possible, what the terms
name and who may add a message is up to each game; each fault is a sentence that names what was found and what was
expected.

A message is text of a stranger that another player will read: :func:`clean_message` makes it a single line of at most
500 printable characters that can close neither its quotation marks nor a chat template's turn. It never decides
anything: only the act before the colon does.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from ..characters import within_planes

LONGEST_ACTION: Final = 4_096  # characters; a longer action is refused unread
LONGEST_MESSAGE: Final = 500  # characters; the rest of a longer message is not heard
WITH_TERMS: Final = frozenset({"offer", "select"})
VERBS: Final = ("offer", "select", "accept", "reject", "walk away", "say", "yes", "no")

_ACT: Final = re.compile(r"\s*([a-z]+(?:\s+away)?)\s*(?:\[([^\[\]]*)\])?\s*(?::(.*))?", re.ASCII | re.I | re.S)
_AMOUNT: Final = re.compile(r"(\d{1,12})(?:\.(\d{1,2}))?", re.ASCII)
_WHOLE: Final = re.compile(r"\d{1,6}", re.ASCII)
_PAIR: Final = re.compile(r"([^\s,=]+)=([^\s,=]+)")
_SPLIT: Final = re.compile(r"[\s,]+")
_REMEMBERED: Final = 256  # characters; longer actions are parsed anew, so that the cache stays small


class Act(NamedTuple):
    """A parsed action. ``terms`` is ``None`` where no brackets were written; ``fault`` is empty or says why the text
    is no action at all."""

    verb: str
    terms: str | None = None
    message: str = ""
    fault: str = ""


def parse(text: str) -> Act:
    """``text`` by the grammar above; never raises. Whether the act is possible now is not judged here."""
    if len(text) <= _REMEMBERED:
        return _parse(text)
    if len(text) > LONGEST_ACTION:
        return Act("", fault=f"the action has {len(text):,} characters; at most {LONGEST_ACTION:,} are read.")
    return _parse.__wrapped__(text)


@lru_cache(maxsize=65_536)
def _parse(text: str) -> Act:
    match = _ACT.fullmatch(text)
    if match is None:
        return Act("", fault=f"{quoted(text)} is not of the form act, act[terms] or act: message.")
    verb = " ".join(match[1].lower().split())
    if verb not in VERBS:
        return Act("", fault=f"{quoted(verb)} is no act.")
    terms, message = match[2], match[3]
    if verb in WITH_TERMS:
        if terms is None:
            return Act(verb, fault=f"{verb} needs terms in brackets: {verb}[…].")
    elif terms is not None:
        return Act(verb, fault=f"{verb} takes no terms in brackets.")
    said = "" if message is None else clean_message(message)
    if verb == "say" and not said:
        return Act(verb, fault="say needs a message: say: words.")
    return Act(verb, None if terms is None else terms.strip(), said)


def clean_message(text: str) -> str:
    """``text`` as one printable line of at most :data:`LONGEST_MESSAGE` characters that ``characters`` admits: signs
    that cannot be shown become blanks, runs of blanks one blank, double quotation marks single ones, and ``<|`` and
    ``|>``, with which chat templates mark turns, are set apart."""
    text = within_planes(text[:LONGEST_ACTION])
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else " " for sign in text)
    text = " ".join(text.split()) if "  " in text else text.strip(" ")  # no other blank is printable
    text = text.replace('"', "'").replace("<|", "< |").replace("|>", "| >")
    return text[:LONGEST_MESSAGE].rstrip()


def quoted(text: str) -> str:
    """At most 40 characters of a stranger's ``text``, cleaned, in quotation marks, for a fault."""
    cleaned = clean_message(text[:200])
    return f'"{cleaned[:40]}…"' if len(cleaned) > 40 else f'"{cleaned}"'


def with_message(act: str, message: str) -> str:
    """The action ``act`` that carries ``message`` (as it is; :func:`parse` cleans it when it is heard)."""
    return f"{act}: {message}" if message else act


@lru_cache(maxsize=65_536)
def amount_in_cents(text: str) -> int | str:
    """The amount that ``text`` writes, in cents, or the fault."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return f"{quoted(text)} is no amount; write digits, such as 1250 or 1250.50."
    return int(match[1]) * 100 + int((match[2] or "0").ljust(2, "0"))


def write_amount(cents: int) -> str:
    """1250 or 1250.50, as :func:`amount_in_cents` reads it."""
    whole, rest = divmod(cents, 100)
    return f"{whole}.{rest:02d}" if rest else str(whole)


@lru_cache(maxsize=65_536)
def named_values(text: str, names: Sequence[str]) -> tuple[str, ...] | str:
    """The values of ``name=value`` pairs in the order of ``names`` (a tuple; every name once), or the fault."""
    found: dict[str, str] = {}
    for part in _SPLIT.split(text.strip(" ,")):
        match = _PAIR.fullmatch(part)
        if match is None:
            expected = " ".join(f"{name}=…" for name in names)
            return f"{quoted(part)} is not of the form name=value; write {expected}."
        name = match[1].lower()
        if name not in names:
            return f"{quoted(name)} is not negotiated here; the names are {', '.join(names)}."
        if name in found:
            return f"{name} stands there twice."
        found[name] = match[2]
    missing = [name for name in names if name not in found]
    if missing:
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; name every one."
    return tuple(found[name] for name in names)


@lru_cache(maxsize=65_536)
def counts_of(text: str, names: Sequence[str], limits: Sequence[int]) -> tuple[int, ...] | str:
    """Whole numbers from 0 to each limit for each of ``names``, or the fault."""
    values = named_values(text, names)
    if isinstance(values, str):
        return values
    for name, value, limit in zip(names, values, limits, strict=True):
        if not _WHOLE.fullmatch(value) or int(value) > limit:
            return f"{name}={clean_message(value)[:20]}: write a whole number from 0 to {limit}."
    return tuple(map(int, values))
