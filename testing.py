"""Checks that anyone can run on their own simulator or environment; ours pass them in the tests.

:func:`check_simulator` walks episodes and holds a simulator to every promise of ``envs/simulator.py``: pure steps,
equal states that behave alike, pickles, the same trajectory in a fresh process, text that cannot hurt.
Also importable from here are :func:`check_snapshot`, which holds an environment to its snapshots,
:func:`check_zoo_text`, which holds PettingZoo environments of pure text to PettingZoo's promises, and
:func:`check_hostile_steps`, hostile texts by the thousand. Each failure is an ``AssertionError`` that says which
promise broke, with which values, and the cure.

Not checked: that rewards or texts are right, and promises broken only on paths that the walks never take.
"""

import hashlib
import math
import os
import pickle
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .envs.checks import check_hostile_steps, check_snapshot, check_zoo_text, promise, short
from .envs.hostile_texts import HOSTILE_TEXTS, NONSENSE_TEXTS, hostile_texts
from .envs.promises import (
    Fault,
    fault_of_actions,
    fault_of_players,
    fault_of_rewards,
    fault_of_state,
)
from .envs.simulator import CHANCE, TERMINAL, Simulator

__all__ = [
    "HOSTILE_TEXTS",
    "NONSENSE_TEXTS",
    "check_hostile_steps",
    "check_simulator",
    "check_snapshot",
    "check_zoo_text",
    "hostile_texts",
]

_ECHO = 100_000  # an observation may quote an action, but not all of a megabyte
_SLOW = 5.0  # seconds; a backtracking pattern on a megabyte takes far longer
_IN_FRESH = "BRANCHWISE_IN_FRESH_PROCESS"
_LONGEST = 300.0  # seconds that the walks may take in a fresh process
_CHILD = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
try:
    simulator, walks = pickle.load(sys.stdin.buffer)
    from branchwise.testing import _trace
except (ImportError, AttributeError) as error:
    answer = f"{type(error).__name__}: {error}"
else:
    answer = [_trace(simulator, *walk) for walk in walks]
sys.stdout.buffer.write(b"\\n--answer--\\n" + pickle.dumps(answer))
"""


def check_simulator(
    simulator: Simulator[Any],
    *,
    seeds: Iterable[int] = range(3),
    actions: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    max_steps: int = 1_000,
    fresh_process: bool = True,
) -> None:
    """Hold ``simulator`` to the promises of the ``Simulator`` protocol; ``AssertionError`` names the first that broke.

    ``actions`` are sensible texts to try where any text may be an answer (``legal_actions`` is ``None``), such as
    ``["search[red shirt]"]``. Episodes must end within ``max_steps``. ``fresh_process=False`` leaves out the repetition
    in another interpreter (about a second), which also needs the simulator's module to be importable there.
    """
    walks = []
    _keeps(fault_of_players(simulator), "a simulator says how many players it has")
    for seed in seeds:
        taken = _check_walk(simulator, seed, tuple(actions), options, max_steps)
        walks.append((seed, options, taken))
        _check_hostile(simulator, seed, options, taken)
    promise(bool(walks), "seeds: expected at least one seed", "pass seeds=range(3)")
    copied = _pickled(simulator, "the simulator")
    for walk in walks:
        _same_trace(_trace(simulator, *walk), _trace(simulator, *walk), walk, "a second run in this process")
        _same_trace(_trace(simulator, *walk), _trace(copied, *walk), walk, "a pickled copy of the simulator")
    if fresh_process and _IN_FRESH not in os.environ:  # the module may check itself where it is imported
        _check_fresh_process(simulator, walks)


def _keeps(fault: Fault | None, what: str) -> None:
    if fault is not None:
        promise(False, f"{what}: {fault.what}", fault.cure)


def _pickled(value: Any, name: str) -> Any:
    try:
        return pickle.loads(pickle.dumps(value))
    except Exception as error:
        raise AssertionError(
            f"broken promise: {name} can be pickled: {type(error).__name__}: {error}. "
            "Cure: keep open files, locks and lambdas out of it, or drop them in __getstate__."
        ) from error


def _view(simulator: Simulator[Any], state: Any) -> dict[str, Any]:
    """Everything that a simulator says of a state, in comparable form."""
    legal, rewards = simulator.legal_actions(state), simulator.rewards(state)
    _keeps(fault_of_rewards(rewards, simulator.players), f"rewards are one finite number a player (in {short(state)})")
    _keeps(
        fault_of_actions(legal), f"a player to move has legal actions, all str and all different (in {short(state)})"
    )
    player = simulator.current_player(state)
    return {
        "current_player": player,
        "observation": tuple(simulator.observation(state, p) for p in range(simulator.players)),
        "legal_actions": None if legal is None else tuple(legal),
        "rewards": tuple(rewards),
        "truncated": simulator.truncated(state),
        "info": simulator.info(state),
        "admissible_commands": simulator.admissible_commands(state),
        "chance_outcomes": tuple(simulator.chance_outcomes(state)) if player == CHANCE else None,
    }


def _check_state(simulator: Simulator[Any], state: Any, where: str) -> dict[str, Any]:
    """The promises about a single state; returns its view."""
    name = type(simulator).__name__
    _keeps(fault_of_state(simulator, state), f"states and positions are hashable ({where})")
    copied = _pickled(state, f"the state ({where})")
    promise(
        copied == state and hash(copied) == hash(state),
        f"a pickled copy equals its state and has its hash ({where}): {short(copied)} is not {short(state)}",
        "compare states by value: a frozen dataclass or NamedTuple, without cached hashes",
    )
    view = _view(simulator, state)
    player = view["current_player"]
    promise(
        player in (CHANCE, TERMINAL) or player in range(simulator.players),
        f"current_player is a player, CHANCE or TERMINAL ({where}): {player!r} with players={simulator.players}",
        f"return 0…{simulator.players - 1}, CHANCE or TERMINAL",
    )
    for text in view["observation"]:
        promise(
            isinstance(text, str),
            f"an observation is a str ({where}): {short(text)}",
            "return text from observation()",
        )
        _check_storable(text, f"the observation ({where})")
    _check_legal(view, where)
    rewards = view["rewards"]
    promise(
        all(isinstance(r, int | float | np.floating) and math.isfinite(r) for r in rewards),
        f"rewards are one finite number a player ({where}): {rewards!r} with players={simulator.players}",
        "return a tuple of floats, zeros where nothing was earned",
    )
    promise(
        isinstance(view["truncated"], bool) and (not view["truncated"] or player == TERMINAL),
        f"truncated is a bool, and a truncated state has no player ({where}): truncated={view['truncated']!r}, "
        f"current_player={player}",
        "let current_player return TERMINAL where truncated is True",
    )
    _check_info(simulator, state, view, where)
    if player == CHANCE:
        total = sum(p for _, p in view["chance_outcomes"])
        promise(
            math.isclose(total, 1.0, abs_tol=1e-9) and all(p > 0 for _, p in view["chance_outcomes"]),
            f"chance outcomes have positive probabilities that sum to 1 ({where}): they sum to {total}",
            "return (outcome, probability) pairs of all outcomes",
        )
    again = _view(simulator, copied)
    for key, value in view.items():
        promise(
            value == again[key],
            f"equal states behave alike ({where}): {key} is {short(value)}, for an equal state {short(again[key])}",
            f"let {name}.{key} depend on the state alone",
        )
    return view


def _check_legal(view: dict[str, Any], where: str) -> None:
    player, legal = view["current_player"], view["legal_actions"]
    if player == TERMINAL:
        promise(
            not legal and not view["admissible_commands"],
            f"nothing is legal after the end ({where}): legal_actions {short(legal)}, admissible_commands "
            f"{short(view['admissible_commands'])}",
            "return () from legal_actions and [] or None from admissible_commands in terminal states",
        )
    elif player != CHANCE and legal is not None:
        promise(
            len(legal) > 0,
            f"a player to move has legal actions ({where}): {short(legal)}",
            "end the episode where nothing is left to do; None means any text",
        )
        for action in legal:
            _check_storable(action, f"a legal action ({where})")


def _check_storable(text: str, name: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise AssertionError(
            f"broken promise: {name} can be written to a file: {error}. "
            "Cure: replace lone surrogates of quoted actions, text.encode('utf-8', 'replace').decode()."
        ) from error


def _check_info(simulator: Simulator[Any], state: Any, view: dict[str, Any], where: str) -> None:
    info = view["info"]
    for flag in ("success", "invalid_action"):
        promise(
            isinstance(info, dict) and isinstance(info.get(flag), bool),
            f"info has a bool {flag!r} ({where}): {short(info)}",
            "return both success and invalid_action from info(), as bool",
        )
    info["scribble"] = True
    promise(
        "scribble" not in simulator.info(state),
        f"info is a fresh dict at every call ({where})",
        "build the dict in info(), or return a copy",
    )
    del info["scribble"]
    commands = view["admissible_commands"]
    if commands is not None:
        promise(
            isinstance(commands, list),
            f"admissible_commands is a list or None ({where}): {short(commands)}",
            "return list(legal_actions)",
        )
        commands.append("scribble")
        promise(
            "scribble" not in (simulator.admissible_commands(state) or ())
            and "scribble" not in (simulator.legal_actions(state) or ()),
            f"admissible_commands is a fresh list at every call ({where})",
            "return a copy: list(…)",
        )
        commands.pop()


def _check_walk(
    simulator: Simulator[Any],
    seed: int,
    actions: tuple[str, ...],
    options: Mapping[str, Any] | None,
    max_steps: int,
) -> tuple[str, ...]:
    """One episode of random legal actions, every state checked; returns the actions taken."""
    rng = random.Random(seed)
    state = simulator.reset(seed, options)
    again = simulator.reset(seed, options)
    _keeps(fault_of_state(simulator, state), f"states and positions are hashable (seed {seed}, start)")
    promise(
        state == again,
        f"reset({seed}) is the same episode every time: {short(state)} and {short(again)}",
        "draw everything from numpy.random.default_rng(seed), or random.Random(seed), made inside reset",
    )
    view = _check_state(simulator, state, f"seed {seed}, start")
    promise(
        not any(view["rewards"]) and not view["info"]["invalid_action"],
        f"nothing is earned or wrong before the first action (seed {seed}): {short(view)}",
        "return zeros from rewards() and invalid_action=False from info() for states of reset()",
    )
    taken: list[str] = []
    met = {simulator.position(state)} if getattr(simulator, "never_repeats", False) else None
    while view["current_player"] != TERMINAL:
        where = f"seed {seed}, after {len(taken)} steps"
        promise(
            len(taken) < max_steps,
            f"an episode ends within its budget (seed {seed}): still running after {max_steps} steps",
            "count steps in the state and truncate, or pass a larger max_steps",
        )
        choices = _choices(view, actions)
        if view["current_player"] != CHANCE and view["legal_actions"] is not None:
            for action in rng.sample(choices, min(5, len(choices))):
                _check_valid(simulator, state, action, where)
        action = rng.choice(choices)
        after = _pure_step(simulator, state, view, action, where)
        taken.append(action)
        state, view = after, _check_state(simulator, after, f"seed {seed}, after {len(taken)} steps")
        if met is not None and view["legal_actions"] is not None:
            position = simulator.position(state)
            promise(
                position not in met,
                f"no position comes twice where never_repeats is set (seed {seed}, after {len(taken)} steps): "
                f"{short(position)}",
                "leave never_repeats out, so that a search looks which actions repeat",
            )
            met.add(position)
    return tuple(taken)


def _choices(view: dict[str, Any], actions: tuple[str, ...]) -> list[str]:
    if view["current_player"] == CHANCE:
        return [outcome for outcome, _ in view["chance_outcomes"]]
    if view["legal_actions"] is not None:
        return list(view["legal_actions"])
    shown = [command for command in view["admissible_commands"] or () if "…" not in command]
    return [*actions, *shown] or ["yes", "42", "search[shirt]"]


def _check_valid(simulator: Simulator[Any], state: Any, action: str, where: str) -> None:
    info = simulator.info(simulator.step(state, action))
    promise(
        not info["invalid_action"],
        f"a legal action is valid ({where}): {short(action)} is in legal_actions, and info says {short(info)}",
        "let legal_actions and step agree on one parser",
    )


def _pure_step(simulator: Simulator[Any], state: Any, view: dict[str, Any], action: str, where: str) -> Any:
    """The state after ``action``, once it is sure that the step left ``state`` alone and gives the same again."""
    kept = pickle.loads(pickle.dumps(state))
    hashed = hash(state)
    try:
        after = simulator.step(state, action)
    except Exception as error:
        raise AssertionError(
            f"broken promise: step never raises on text ({where}): {short(action)} raised "
            f"{type(error).__name__}: {error}. Cure: answer with a state whose info has invalid_action set."
        ) from error
    _keeps(fault_of_state(simulator, after), f"states and positions are hashable ({where}, after {short(action)})")
    promise(
        state == kept and hash(state) == hashed and _view(simulator, state) == view,
        f"step does not change the state that it was given ({where}), action {short(action)}: it was {short(kept)} "
        f"and became {short(state)}",
        "build a new state (NamedTuple._replace, dataclasses.replace); share no list or dict between states",
    )
    for other, name in ((state, "the same state"), (kept, "an equal state")):
        second = simulator.step(other, action)
        promise(
            second == after and hash(second) == hash(after),
            f"the same action from {name} leads to the same state ({where}), action {short(action)}: "
            f"{short(after)} and {short(second)}",
            "draw luck in reset() or at chance nodes; keep no memory of earlier steps in the simulator",
        )
    return after


def _check_hostile(
    simulator: Simulator[Any], seed: int, options: Mapping[str, Any] | None, taken: Sequence[str]
) -> None:
    """Every hostile text at the start, a third and two thirds into the episode that ``taken`` made."""
    stops = {0, len(taken) // 3, 2 * len(taken) // 3}
    state = simulator.reset(seed, options)
    for number, action in enumerate([*taken, ""]):
        player = simulator.current_player(state)
        if player in (CHANCE, TERMINAL):
            if player == TERMINAL:
                return
        elif number in stops:
            for text in HOSTILE_TEXTS:
                _check_one_hostile(simulator, state, text, f"seed {seed}, after {number} steps")
        state = simulator.step(state, action)


def _check_one_hostile(simulator: Simulator[Any], state: Any, text: str, where: str) -> None:
    where = f"{where}, given {short(text)}"
    view = _view(simulator, state)
    started = time.perf_counter()
    after = _pure_step(simulator, state, view, text, where)
    seconds = time.perf_counter() - started
    promise(
        seconds < _SLOW,
        f"no text stalls a step ({where}): three steps took {seconds:.1f} s",
        "bound the text's length first; avoid patterns that backtrack",
    )
    told = _check_state(simulator, after, where)
    length = max(map(len, told["observation"]))
    promise(
        length <= max(map(len, view["observation"])) + _ECHO,
        f"an observation does not grow with the action ({where}): {length} characters",
        "quote at most the first hundred characters of an action",
    )
    if view["legal_actions"] is not None and text in NONSENSE_TEXTS:
        promise(
            told["info"]["invalid_action"],
            f"a text that is no legal action is counted as invalid ({where}): info says {short(told['info'])}",
            "set invalid_action where the parser finds no legal action",
        )


def _trace(
    simulator: Simulator[Any], seed: int, options: Mapping[str, Any] | None, actions: Sequence[str]
) -> list[tuple[Hashable, bytes]]:
    """An episode's states, and a digest of what was said in each."""
    state = simulator.reset(seed, options)
    trace = [(state, _digest(simulator, state))]
    for action in actions:
        state = simulator.step(state, action)
        trace.append((state, _digest(simulator, state)))
    return trace


def _digest(simulator: Simulator[Any], state: Any) -> bytes:
    return hashlib.sha256(repr(_ordered(_view(simulator, state))).encode("utf-8", "surrogatepass")).digest()


def _ordered(value: Any) -> Any:
    """Sets in a fixed order, so that the digest does not depend on string hashing."""
    if isinstance(value, Mapping):
        return [(key, _ordered(value[key])) for key in sorted(value, key=repr)]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return [_ordered(entry) for entry in value]
    return value


def _same_trace(
    expected: list[tuple[Hashable, bytes]], found: list[tuple[Hashable, bytes]], walk: Any, name: str
) -> None:
    seed, _, actions = walk
    for step, ((state, digest), (other, other_digest)) in enumerate(zip(expected, found, strict=True)):
        promise(
            state == other and hash(state) == hash(other) and digest == other_digest,
            f"the same seed and actions give the same trajectory in {name}: seed {seed} parts after {step} steps "
            f"(last action {short(actions[step - 1] if step else None)}): {short(state)} and {short(other)}",
            "order nothing by hash or by set iteration, use no global random generator or clock, and cache no hash "
            "inside a state",
        )


def _check_fresh_process(simulator: Simulator[Any], walks: list[Any]) -> None:
    """The walks again in another interpreter with another hash seed."""
    if type(simulator).__module__ == "__main__":
        warnings.warn(
            f"{type(simulator).__name__} lives in __main__ and was not checked in a fresh process; "
            "move it to a module, or pass fresh_process=False.",
            stacklevel=3,
        )
        return
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=pickle.dumps(sys.path) + pickle.dumps((simulator, walks)),
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, _IN_FRESH: "1"},
            timeout=_LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(
            f"broken promise: the simulator runs in a fresh process: {len(walks)} walks took more than {_LONGEST:.0f} "
            "s. Cure: look for a wait on what another process holds, or pass fewer seeds."
        ) from error
    _, found, answer = done.stdout.partition(b"\n--answer--\n")
    report = done.stderr.decode(errors="replace")[-800:]
    promise(
        bool(found),
        f"the simulator runs in a fresh process: exit code {done.returncode}, {report}",
        "see the traceback above; an unpickled simulator must work without what its process had set up",
    )
    traces = pickle.loads(answer)
    if isinstance(traces, str):
        warnings.warn(
            f"{type(simulator).__name__} could not be loaded in a fresh process and was not checked there: {traces}; "
            "put it in an importable module, or pass fresh_process=False.",
            stacklevel=3,
        )
        return
    for walk, trace in zip(walks, traces, strict=True):
        _same_trace(_trace(simulator, *walk), trace, walk, "a fresh process")
