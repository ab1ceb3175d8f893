"""What a simulator may offer beyond the protocol, and what the shells use where it does not.

| method of the simulator | what for | without it |
|---|---|---|
| ``all_actions() -> Sequence[str]`` | every action that can ever be legal, in a fixed order: an action's index | the \
index counts through the actions that are legal now |
| ``action_indices(state) -> Sequence[int]`` and ``action_count: int`` | the same where texts depend on the state: the \
index of each legal action, in the order of ``legal_actions`` | as above |
| ``numbered_actions(state) -> tuple[bytes, dict[int, str]]`` | a byte for each of ``all_actions``, 1 where legal, and \
the texts of these by index, a fresh dict, where that is quicker than looking up each | found by ``legal_actions`` |
| ``max_actions: int`` | how many indices there are where none of these is offered | 128 |
| ``suggested_actions(state) -> Sequence[str]`` | sensible texts where any text may be an answer | see \
:func:`suggested_actions` |
| ``array(state, player) -> np.ndarray`` | what ``player`` sees as numbers, of one shape and dtype | the observation's \
UTF-8 bytes |
| ``array_range: tuple[float, float]`` | the smallest and largest number in it | the range of its dtype |
| ``success(state, player) -> bool`` | whether ``player`` did well | player 0: ``info``; others: a positive reward at \
the end |
| ``outcome_figures(state) -> Mapping[str, float]`` | further figures of a finished episode, as whether there was a \
deal; a name may be missing where it has no meaning | none |
| ``histories: int`` | how many histories a zero-sum game of two players has, where they are few: a policy's \
exploitability is then measured beside its results | it is not |
| ``goal_count: int`` | how many numbered goals the split has, ``reset(options={"goal": i})`` for i from 0 on | \
episodes are named by seeds |
| ``optimal_values(state) -> Mapping[str, float]`` | what each legal action is worth to the player to move where all \
play on as well as can be: labels are then audited exactly | they are audited by roll-outs |
| ``never_repeats: bool`` | legal actions never lead to a position twice in an episode: a search then need not step \
into all actions of a node to see which repeat | it steps into all, unless ``revisit=True`` |
| ``lexicon() -> Sequence[str]``, ``phrases() -> Sequence[str]`` | the words that it uses, and what is said in several \
words and means one thing: for the tokenizer of a model made from scratch | the words that demonstrations hold |
| ``action_kind(action) -> str`` | what kind of action a text is, to count them by | see :func:`kind_of_action` |
| ``lists_all(state) -> bool`` | whether ``legal_actions`` are all that may be said: only then can a search prove a \
loss or a draw | they are |
| ``foreknowledge: bool`` | stepping from a state again repeats its luck: a search knows what luck will bring, and \
warns, unless it draws luck anew (``resample``, ``information="single_observer"``) | luck lies in chance nodes alone |
| ``svg(state) -> str`` | a picture | no picture |
| ``moves_seen(state, player) -> Sequence[str]`` | the moves so far that ``player`` knows of, in words | nothing is \
added to what a person reads |
| ``simultaneous_players(state) -> Sequence[int]`` | the players who move together from here on, in the order in which \
they are asked, none seeing what those before did | the player to move alone |
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from .promises import checked_fact
from .simulator import TERMINAL, Simulator

TEXT_BYTES = 1_024
_MAX_ACTIONS = 128
_MOST_PHRASES = 12
_REMEMBERED = 4_096  # texts of all lists of actions together
_LONGEST_PHRASE = 200
_LONGEST_KIND = 16
_BREAK = re.compile(r"[\n.:;!?]+ |\n|\[SEP\]")
_WORD = re.compile(r"\w[\w'’.-]*\w|\w")


def suggested_actions(simulator: Simulator[Any], state: Any) -> Sequence[str]:
    """A few actions to choose from by number: the legal ones; where any text may be an answer, what the simulator
    suggests, else its commands, those with an ellipsis filled with pieces of what is read: each line or sentence whole
    and, a few words at a time, the longest line."""
    legal = simulator.legal_actions(state)
    if legal is not None:
        return legal
    suggest = getattr(simulator, "suggested_actions", None)
    if suggest is not None:
        return suggest(state)
    commands = simulator.admissible_commands(state) or ["…"]
    texts: list[str] = []
    for command in commands:
        if "…" not in command:
            texts.append(command)
        else:
            seen = simulator.observation(state, max(simulator.current_player(state), 0))
            texts.extend(command.replace("…", phrase) for phrase in phrases(seen))
    return tuple(dict.fromkeys(texts))


def kind_of_action(simulator: Simulator[Any], action: str) -> str:
    """What kind of action a text is: as the simulator has it, else the word before a bracket or a colon, else a short
    text itself, and ``text`` for a long one.

    >>> [kind_of_action(None, text) for text in ("python[1 + 1]", "say: a deal?", "9", "This is a long answer, alas.")]
    ['python', 'say', '9', 'text']
    """
    offered = getattr(simulator, "action_kind", None)
    if offered is not None:
        return str(offered(action))
    text = action.strip().lower()
    for sign in "[:":
        verb, found, _ = text.partition(sign)
        if found and verb.strip().isalpha():
            return verb.strip()
    return text if len(text) <= _LONGEST_KIND and "\n" not in text else "text"


def phrases(text: str) -> list[str]:
    """Pieces of ``text``, at most a dozen, that a search field or a reply could be filled with: its first lines and
    sentences, then the longest of them by three and by two words.

    >>> phrases("goal red cotton shirt\\nsteps 15")
    ['goal red cotton shirt', 'steps 15', 'goal red cotton', 'red cotton shirt', 'goal red', 'red cotton', \
'cotton shirt']
    """
    lines = [" ".join(_WORD.findall(line)) for line in _BREAK.split(text[:4_096])]
    words = max(lines, key=len).split()
    parts = [" ".join(words[i : i + size]) for size in (3, 2) for i in range(len(words) - size + 1)]
    whole = [line for line in dict.fromkeys(lines) if 0 < len(line) <= _LONGEST_PHRASE]
    return list(dict.fromkeys([*whole[: _MOST_PHRASES // 2], *parts]))[:_MOST_PHRASES] or ["yes"]


def hides(simulator: Simulator[Any]) -> bool:
    """Whether the simulator hides something that its ``resample`` draws anew: what it declares, and where it is of
    another class than ``Simulator`` and declares nothing, whether it has a ``resample``."""
    return bool(getattr(simulator, "hides", hasattr(simulator, "resample")))


class ActionTable:
    """Numbers for the actions of ``simulator``: ``n`` of them, and at each state which stand for which text.

    Where the simulator offers neither ``all_actions`` nor ``action_indices``, an index counts through the actions of
    the state (:func:`suggested_actions`); those past ``n`` have none, so choose ``n`` large enough.
    """

    def __init__(self, simulator: Simulator[Any], n: int | None = None) -> None:
        self._simulator = simulator
        every = getattr(simulator, "all_actions", None)
        self._texts: tuple[str, ...] | None = None if every is None else tuple(every())
        self._numbers = {text: i for i, text in enumerate(self._texts or ())}
        self._counted = self._texts is None and hasattr(simulator, "action_indices")
        most: int = getattr(simulator, "max_actions", _MAX_ACTIONS)
        self.n = most if n is None else n
        if self._texts is not None:
            self.n = len(self._texts)
        elif self._counted:
            self.n = int(simulator.action_count)  # type: ignore[attr-defined]
        self._offered = hasattr(simulator, "numbered_actions")
        self._known: dict[Any, tuple[np.ndarray, dict[int, str]]] | None = {}
        self._room, self._hits = _REMEMBERED, 0

    def texts(self, state: Any) -> dict[int, str]:
        """The actions of the player to move, by index; empty at the end."""
        return self.choices(state)[1]

    def text(self, state: Any, index: int) -> str:
        """The action with ``index`` in ``state``; for a number that stands for none, a text that is no action."""
        if self._texts is not None and 0 <= index < self.n:
            return self._texts[index]
        return self._look_up(state)[1].get(index, f"<action {index}>")

    def mask(self, state: Any) -> np.ndarray:
        """1 where an index stands for an action of the player to move: int8 ``[n]``, read-only, shared."""
        return self._look_up(state)[0]

    def choices(self, state: Any) -> tuple[np.ndarray, dict[int, str]]:
        """:meth:`mask` and :meth:`texts`."""
        mask, texts = self._look_up(state)
        return mask, texts if self._offered else texts.copy()

    def _look_up(self, state: Any) -> tuple[np.ndarray, dict[int, str]]:
        """Mask and texts, remembered by what is legal as long as that comes again often enough to pay."""
        if self._offered:
            mask, texts = self._simulator.numbered_actions(state)  # type: ignore[attr-defined]
            return np.frombuffer(mask, np.int8), texts
        legal = tuple(self._actions(state))
        indices = tuple(self._simulator.action_indices(state)) if self._counted and legal else None  # type: ignore[attr-defined]
        if self._known is None:
            return self._numbered(legal, indices)
        known = self._known.get((legal, indices))
        if known is not None:
            self._hits += 1
            return known
        known = self._numbered(legal, indices)
        self._room -= len(legal)
        if self._room > 0:
            self._known[legal, indices] = known
        elif self._hits > len(self._known):
            self._known, self._room, self._hits = {}, _REMEMBERED, 0
        else:
            self._known = None
        return known

    def _numbered(self, legal: Sequence[str], indices: Sequence[int] | None) -> tuple[np.ndarray, dict[int, str]]:
        """Mask and texts of the actions ``legal``; without ``indices`` they have the numbers of all, or are counted."""
        mask, texts = bytearray(self.n), {}  # a bytearray is filled in half the time of an array
        if self._texts is not None:
            numbers = self._numbers
            for text in legal:
                index = numbers[text]
                mask[index] = 1
                texts[index] = text
        else:
            for index, text in zip(range(self.n) if indices is None else indices, legal, strict=False):
                mask[index] = 1
                texts[index] = text
        return np.frombuffer(bytes(mask), np.int8), texts

    def left_out(self, state: Any) -> int:
        """How many actions of ``state`` have no number."""
        return max(0, len(self._actions(state)) - self.n)

    def _actions(self, state: Any) -> Sequence[str]:
        legal = self._simulator.legal_actions(state)
        if legal is not None:
            return legal
        over = self._simulator.current_player(state) == TERMINAL
        return () if over else suggested_actions(self._simulator, state)


def array_of(simulator: Simulator[Any], state: Any, player: int) -> np.ndarray:
    """What ``player`` sees as numbers: the simulator's ``array``, else :func:`text_array` of the observation."""
    offered = getattr(simulator, "array", None)
    if offered is not None:
        return offered(state, player)
    return text_array(simulator.observation(state, player))


def text_array(text: str) -> np.ndarray:
    """The first 1,024 UTF-8 bytes of ``text``, filled up with zeros: uint8 ``[1024]``, read-only."""
    return np.frombuffer(text.encode("utf-8", "replace")[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0"), np.uint8)


def array_space(simulator: Simulator[Any]) -> spaces.Box:
    """The space of :func:`array_of`."""
    array = array_of(simulator, simulator.reset(0), 0)
    kind = array.dtype
    if kind == np.bool_ or kind.kind not in "iu":
        low, high = (0, 1) if kind == np.bool_ else (-np.inf, np.inf)
    else:
        low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    low, high = getattr(simulator, "array_range", (low, high))
    return spaces.Box(low, high, array.shape, kind.type)


def figures_of(simulator: Simulator[Any], state: Any) -> dict[str, float]:
    """The simulator's ``outcome_figures`` of a finished episode; none where it offers none, and before the end."""
    offered = getattr(simulator, "outcome_figures", None)
    if offered is None or simulator.current_player(state) != TERMINAL:
        return {}
    figures = {name: float(value) for name, value in offered(state).items()}
    if not all(map(math.isfinite, figures.values())):
        raise ValueError(f"{type(simulator).__name__}.outcome_figures gave {figures}; return finite numbers")
    return figures


def success_of(simulator: Simulator[Any], state: Any, player: int) -> bool:
    """Whether ``player`` did well: the simulator's ``success``, else its ``info`` for player 0, and for the others a
    positive reward on reaching the end."""
    offered = getattr(simulator, "success", None)
    if offered is not None:
        return bool(offered(state, player))
    if player == 0:
        return checked_fact(simulator, state, "success")
    return simulator.current_player(state) == TERMINAL and simulator.rewards(state)[player] > 0
