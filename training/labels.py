"""How right a file's labels are, in figures: the verdicts of an audit (``search.audit``) summed up by depth, by
extractor and by kind of action, and kept in a file, so that an audit that was stopped resumes.

Shares have Wilson's 95 % interval. What it does not do: restore and roll (``search.audit``), print (``cli``).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..envs.abilities import kind_of_action
from ..envs.checked import LARGEST
from ..envs.json_files import parse_json
from ..envs.play.agent import Agent
from ..envs.play.players import PolicyAgent
from ..envs.simulator import Simulator
from ..search.audit import Verdict, audited
from ..search.extraction import PreferencePair
from .evaluation import wilson
from .line_log import LineLog
from .stages import is_number

ALL: Final = "all"
MOST_KINDS: Final = 8
BEGINS: Final = b'{"audit": '
"""How a file of verdicts begins."""
PAIRS_AT_ONCE: Final = 8
"""Few, so that a kill costs little and progress is seen; their roll-outs together fill a batch."""

Audited = tuple[PreferencePair, Verdict]


def judged_by_place(
    pairs: Sequence[PreferencePair],
    places: Sequence[int],
    simulator: Simulator[Any],
    agent: Agent,
    seed: Sequence[int],
    rolls: int,
    actions: int | None = None,
    exact: bool = False,
) -> Iterator[list[tuple[int, Verdict | str]]]:
    """What ``search.audit.audited`` says of the pairs at ``places``, some at a time. A pair draws from a generator of
    its own, of ``seed`` and its place, and a model's remembered scores are forgotten between batches, so that a verdict
    does not depend on the others."""
    for first in range(0, len(places), PAIRS_AT_ONCE):
        some = places[first : first + PAIRS_AT_ONCE]
        if isinstance(agent, PolicyAgent) and hasattr(agent.policy, "forget"):
            agent.policy.forget()  # scores of another batch differ in the last bit
        rngs = [np.random.default_rng([*seed, place]) for place in some]
        found = audited([pairs[place] for place in some], simulator, agent, rngs, rolls, actions, exact)
        yield list(zip(some, found, strict=True))


def kind_of_contrast(simulator: Simulator[Any], pair: PreferencePair) -> str:
    """Which kind of action is better than which, by the first action of each side."""
    return " over ".join(kind_of_action(simulator, side[0].text) for side in (pair.chosen, pair.rejected))


def label_figures(judged: Sequence[Audited]) -> dict[str, Any]:
    """Of pairs with their verdicts: ``pairs``, the shares ``right``, ``tied`` and ``wrong`` with their intervals
    (``right_low`` …), ``clearly_right`` and ``clearly_wrong`` (differences that luck does not explain), and the
    mean difference of values that the labels claim and that was measured (``claimed``, ``measured``). Raises
    ``ValueError`` for none."""
    if not judged:
        raise ValueError("no pair was judged, so that there are no figures")
    gaps = [verdict.gap for _, verdict in judged]
    found: dict[str, Any] = {"pairs": len(judged)}
    for name, count in (
        ("right", sum(gap > 0 for gap in gaps)),
        ("tied", sum(gap == 0 for gap in gaps)),
        ("wrong", sum(gap < 0 for gap in gaps)),
    ):
        low, high = wilson(count, len(judged))
        found |= {name: count / len(judged), f"{name}_low": low, f"{name}_high": high}
    clear = [gap for gap, (_, verdict) in zip(gaps, judged, strict=True) if verdict.is_clear]
    return {
        **found,
        "clearly_right": sum(gap > 0 for gap in clear) / len(judged),
        "clearly_wrong": sum(gap < 0 for gap in clear) / len(judged),
        "claimed": sum(pair.chosen_q - pair.rejected_q for pair, _ in judged) / len(judged),
        "measured": sum(gaps) / len(judged),
    }


def label_table(judged: Sequence[Audited], kind_of: Callable[[PreferencePair], str]) -> list[dict[str, Any]]:
    """The figures of all pairs, then by depth, by extractor, and of the most frequent kinds of contrast; ``of`` says of
    which. Groups that are all of the pairs are left out."""
    rows = [{"of": ALL, **label_figures(judged)}]
    for name, most in (
        (lambda pair: f"depth {pair.depth}", None),
        (lambda pair: pair.kind or "no extractor", None),
        (kind_of, MOST_KINDS),
    ):
        groups: dict[str, list[Audited]] = {}
        for pair, verdict in judged:
            groups.setdefault(name(pair), []).append((pair, verdict))
        names = sorted(groups) if most is None else [each for each, _ in _largest(groups)[:most]]
        rows += [{"of": each, **label_figures(groups[each])} for each in sorted(names, key=_natural) if len(groups) > 1]
    return rows


def _largest(groups: Mapping[str, Sequence[Audited]]) -> list[tuple[str, int]]:
    return Counter({name: len(group) for name, group in groups.items()}).most_common()


def _natural(name: str) -> tuple[str, int]:
    """Numbers at the end in their order."""
    head, _, tail = name.rpartition(" ")
    return (head, int(tail)) if tail.isascii() and tail.isdigit() and len(tail) < 10 else (name, 0)


class VerdictLog(LineLog):
    """The verdicts of an audit by the place of their pairs, kept in ``path`` as they come (``None``: in memory alone).

    The file's first line says what is audited (``about``), each other one is a verdict or why there is none. A last
    line that was cut off by a kill is dropped. A context manager. Raises ``ValueError`` naming file and line where the
    file holds something else, or another audit."""

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self.found: dict[int, Verdict | str] = {}
        if path is None:
            return
        about = json.loads(json.dumps({"audit": about}))
        whole = self._read(path, about) if path.exists() else 0
        self.open_at(path, whole)
        if not whole:
            self._write(about)

    def add(self, verdicts: Iterable[tuple[int, Verdict | str]]) -> None:
        """Keep verdicts by the place of their pairs."""
        for place, verdict in verdicts:
            self.found[place] = verdict
            self._write({"place": place, **({"none": verdict} if isinstance(verdict, str) else asdict(verdict))})
        self.flush()

    def _write(self, row: Mapping[str, Any]) -> None:
        self.write(json.dumps(row).encode() + b"\n")

    def _read(self, path: Path, about: Mapping[str, Any]) -> int:
        """Take the verdicts of ``path``; how many bytes of it are whole lines."""
        cure = "name another file, or remove it to audit anew"
        whole = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if number == 1 and not line.startswith(BEGINS):
                        raise ValueError(f"{path} exists and holds no audit; {cure}")
                    break
                row = parse_json(line, f"{path}, line {number}", cure)
                if number == 1:
                    _check_about(path, row, about, cure)
                else:
                    try:
                        place = _whole(row["place"])
                        self.found[place] = _verdict_of(row)
                    except (ValueError, KeyError, TypeError, OverflowError) as error:
                        raise ValueError(f"{path}, line {number}: no verdict of an audit ({error!r}); {cure}") from None
                whole += len(line)
        return whole


def _check_about(path: Path, row: Any, about: Mapping[str, Any], cure: str) -> None:
    known = row.get("audit") if isinstance(row, dict) else None
    if not isinstance(known, dict):
        raise ValueError(f"{path} exists and holds no audit; {cure}")
    wanted = about["audit"]
    if changed := [name for name in {**known, **wanted} if known.get(name) != wanted.get(name)]:
        raise ValueError(f"{path} holds an audit with another {', '.join(changed)}; {cure}")


def _verdict_of(row: Mapping[str, Any]) -> Verdict | str:
    if "none" in row:
        return str(row["none"])
    numbers = {name: row[name] for name in ("chosen_q", "rejected_q", "error")}
    if not all(is_number(value) and abs(value) <= LARGEST for value in numbers.values()) or numbers["error"] < 0:
        raise ValueError(f"{numbers}; expected numbers that 32 bits hold")
    return Verdict(**numbers, rolls=_whole(row["rolls"]), model_calls=_whole(row.get("model_calls", 0)))


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{value!r:.40}; expected a whole number from 0 on")
    return value


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder by name, in hexadecimal."""
    if path.is_dir():
        whole = hashlib.sha256()
        for file in sorted(path.rglob("*")):
            if file.is_file():
                whole.update(f"{file.relative_to(path)} {digest(file)}\n".encode())
        return whole.hexdigest()
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
