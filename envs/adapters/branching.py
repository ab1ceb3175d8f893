"""Ways to come back to a state of a live Gymnasium environment, and the trial that finds which of them hold.

A way is a native snapshot (``snapshot``/``restore`` or ALE's ``clone_state``/``restore_state``), a deep copy, or replay
from the seed. Each is tried on several episodes and depths: the copy is stepped before its original, the snapshot used
twice, and what follows is compared with an episode that was left alone, bit for bit. ``copy.deepcopy`` of many
environments silently loses or shares state (those built on ``gymnasium.utils.EzPickle`` are rebuilt from their
arguments), so that no way is believed without.

Not handled here: differences that show later than the steps tried.
"""

import copy
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import gymnasium as gym
import numpy as np

Branching = Literal["native", "deepcopy", "replay"]
Step = tuple[Any, float, bool, bool]
"""A step's observation, exactly, its reward, and whether it terminated or truncated the episode."""

_SEEDS = (0, 1, 2)
_DEPTHS = (0, 4, 12)
_STEPS = 24
_KNOWN_STATELESS = (
    gym.wrappers.OrderEnforcing,
    gym.wrappers.PassiveEnvChecker,
    gym.wrappers.TransformAction,
    gym.wrappers.TransformObservation,
    gym.wrappers.TransformReward,
)


class CannotBranch(RuntimeError):  # noqa: N818 - reads as the sentence it is
    """No way was found to come back to a state of this environment; the message says what each way did."""


class Trial(NamedTuple):
    """What is tried: a live environment, how another one is made, and ``choose(observation, info, rng)``, which gives
    an action that may be taken there."""

    env: gym.Env[Any, Any]
    make: Callable[[], gym.Env[Any, Any]]
    choose: Callable[[Any, Mapping[str, Any], np.random.Generator], Any]

    def episode(self, seed: int, depth: int, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
        """A past of ``depth`` actions (fewer where the episode ends before) and a future after it."""
        observation, info = self.env.reset(seed=seed)
        actions: list[Any] = []
        over = False
        while not over and len(actions) < depth + _STEPS:
            actions.append(self.choose(observation, info, rng))
            observation, _, terminated, truncated, info = self.env.step(actions[-1])
            over = terminated or truncated
        depth = min(depth, len(actions) // 2)
        return actions[:depth], actions[depth:]


def fastest_way(trial: Trial, name: str) -> tuple[Branching, dict[str, str]]:
    """The fastest way that holds, and what became of each. Raises :class:`CannotBranch`, about the environment
    ``name``, where replay does not hold: a state has to mean the same after a snapshot was dropped, and elsewhere."""
    replayed = _fault_of(WAYS["replay"], trial)
    tried: dict[Branching, str | None] = {
        kind: replayed if kind == "replay" else _fault_of(way, trial, truth_known=replayed is None)
        for kind, way in WAYS.items()
    }
    outcome: dict[str, str] = {kind: fault or "holds" for kind, fault in tried.items()}
    if replayed is not None:
        ways = "\n".join(f"  {kind}: {found}" for kind, found in outcome.items())
        raise CannotBranch(
            f"{name} cannot be searched, since its states cannot be reached again from a seed and "
            f"the actions taken:\n{ways}\nCure: let reset(seed=…) decide all randomness (np_random of "
            "gymnasium.Env), and read no clock and no global generator. A native snapshot makes search fast, but "
            "cannot stand in for replay: a state must mean the same in another process too."
        )
    return next(kind for kind, fault in tried.items() if fault is None), outcome


def luck_can_be_redrawn(trial: Trial) -> bool:
    """Whether a new seed in the middle of an episode changed what followed the same actions in any trial."""
    return _luck_differs(trial, _reseeded)


def luck_differs_by_seed(trial: Trial) -> bool:
    """Whether an episode of another seed that began alike went on differently after the same actions in any trial."""
    return _luck_differs(trial, _other_seed)


def steps_in_a_copy(trial: Trial) -> int:
    """How many replayed steps cost as much as one deep copy: below that many, replaying is the faster way."""
    env = trial.env
    _, actions = trial.episode(_SEEDS[0], 0, np.random.default_rng(0))
    started = time.perf_counter()
    copied = copy.deepcopy(env)
    copied_at = time.perf_counter()
    env.reset(seed=_SEEDS[0], options=None)
    _play(env, actions)
    per_step = (time.perf_counter() - copied_at) / (len(actions) + 1)
    copied.close()
    return int((copied_at - started) / per_step)


def reseed(env: gym.Env[Any, Any], seed: int) -> None:
    """Let all luck to come be that of ``seed``."""
    env.unwrapped.np_random = np.random.default_rng(seed)


def frozen_observation(observation: Any) -> Any:
    """What an observation says, exactly, kept apart from buffers that an environment may use again."""
    if isinstance(observation, np.ndarray):
        return observation.shape, observation.dtype.str, observation.tobytes()
    if isinstance(observation, Mapping):
        return tuple((key, frozen_observation(value)) for key, value in observation.items())
    if isinstance(observation, list | tuple):
        return tuple(frozen_observation(value) for value in observation)
    return observation


class Way(Protocol):
    """A way to come back: ``absent`` says why an environment lacks it, ``fault`` what it got wrong in one trial."""

    def absent(self, env: gym.Env[Any, Any]) -> str | None: ...

    def take(self, env: gym.Env[Any, Any]) -> Any: ...

    def resume(self, env: gym.Env[Any, Any], snapshot: Any) -> gym.Env[Any, Any]: ...

    def fault(self, trial: Trial, seed: int, past: list[Any], future: list[Any], truth_known: bool) -> str | None: ...


class _Snapshots:
    """What native snapshots and deep copies share."""

    def absent(self, env: gym.Env[Any, Any]) -> str | None:
        return None

    def take(self, env: gym.Env[Any, Any]) -> Any:
        raise NotImplementedError

    def resume(self, env: gym.Env[Any, Any], snapshot: Any) -> gym.Env[Any, Any]:
        raise NotImplementedError

    def fault(self, trial: Trial, seed: int, past: list[Any], future: list[Any], truth_known: bool) -> str | None:
        """A resumed snapshot moves, then the original, then the snapshot resumed again: lost state shows in the first,
        shared state in the others. Where replay holds, all must also go like an episode without snapshots."""
        env = trial.make()
        try:
            env.reset(seed=seed)
            _play(env, past)
            kept = self.take(env)
            resumed = self.resume(env, kept)
            runs = [("a resumed snapshot", _play(resumed, future))]
            if resumed is not env:
                runs.append(("the original, after its snapshot moved, goes on differently", _play(env, future)))
            again = self.resume(env, kept)
            runs.append(("a snapshot resumed a second time goes on differently", _play(again, future)))
            if truth_known:
                untouched = trial.make()
                untouched.reset(seed=seed)
                _play(untouched, past)
                runs.append(("a resumed snapshot does not go on like its original", _play(untouched, future)))
                untouched.close()
            return _disagreement(runs)
        finally:
            env.close()


class _Native(_Snapshots):
    def absent(self, env: gym.Env[Any, Any]) -> str | None:
        wrapper: Any = env
        while isinstance(wrapper, gym.Wrapper):
            if not isinstance(wrapper, _KNOWN_STATELESS):
                return f"the wrapper {type(wrapper).__name__} may hold state that a native snapshot leaves out"
            wrapper = wrapper.env
        if _native_methods(env) is None:
            return "the environment has neither snapshot/restore nor clone_state/restore_state"
        return None

    def take(self, env: gym.Env[Any, Any]) -> Any:
        methods = _native_methods(env)
        assert methods is not None
        return methods[0]()

    def resume(self, env: gym.Env[Any, Any], snapshot: Any) -> gym.Env[Any, Any]:
        methods = _native_methods(env)
        assert methods is not None
        methods[1](snapshot)
        return env


class _Copies(_Snapshots):
    def take(self, env: gym.Env[Any, Any]) -> Any:
        return copy.deepcopy(env)

    def resume(self, env: gym.Env[Any, Any], snapshot: Any) -> gym.Env[Any, Any]:
        return copy.deepcopy(snapshot)


class _Replays(_Snapshots):
    def fault(self, trial: Trial, seed: int, past: list[Any], future: list[Any], truth_known: bool) -> str | None:
        """Twice in the environment at hand, once in a fresh one: what leaks from one episode to the next shows."""
        fresh = trial.make()
        runs = []
        for name, env in (("", trial.env), ("a second replay", trial.env), ("a fresh environment", fresh)):
            steps = _from_reset(env, seed, [*past, *future])
            runs.append((f"{name} with the same seed and actions", steps))
        fresh.close()
        return _disagreement(runs)


# Fastest first.
WAYS: dict[Branching, Way] = {"native": _Native(), "deepcopy": _Copies(), "replay": _Replays()}


def _fault_of(way: Way, trial: Trial, truth_known: bool = False) -> str | None:
    rng = np.random.default_rng(0)
    try:
        absent = way.absent(trial.env)
        if absent:
            return absent
        for seed in _SEEDS:
            for depth in _DEPTHS:
                past, future = trial.episode(seed, depth, rng)
                fault = way.fault(trial, seed, past, future, truth_known)
                if fault:
                    return f"seed {seed}, after {len(past)} steps: {fault}"
    except Exception as error:  # what a foreign environment raises is a finding about it
        return f"raised {type(error).__name__}: {error}"
    return None


def _native_methods(env: gym.Env[Any, Any]) -> tuple[Callable[[], Any], Callable[[Any], Any]] | None:
    base: Any = env.unwrapped
    if callable(getattr(base, "snapshot", None)) and callable(getattr(base, "restore", None)):
        return base.snapshot, base.restore
    if callable(getattr(base, "clone_state", None)) and callable(getattr(base, "restore_state", None)):
        # ALE leaves its random generator (sticky actions) out unless it is asked for.
        if "include_rng" in inspect.signature(base.clone_state).parameters:
            return lambda: base.clone_state(include_rng=True), base.restore_state
        return base.clone_state, base.restore_state
    return None


def _luck_differs(trial: Trial, start: Callable[[gym.Env[Any, Any], int, list[Any]], bool]) -> bool:
    """Whether the same actions led elsewhere under other luck (``start`` brings it in and plays the past; whether it
    could) in any trial."""
    env, rng = trial.env, np.random.default_rng(0)
    for seed in _SEEDS:
        for depth in _DEPTHS:
            past, future = trial.episode(seed, depth, rng)
            steps = _from_reset(env, seed, [*past, *future])
            if start(env, seed, past) and _difference(steps[len(past) + 1 :], _play(env, future)):
                return True
    return False


def _reseeded(env: gym.Env[Any, Any], seed: int, past: list[Any]) -> bool:
    """Play the past, and give what follows other luck."""
    _from_reset(env, seed, past)
    reseed(env, seed + 1)
    return True


def _other_seed(env: gym.Env[Any, Any], seed: int, past: list[Any]) -> bool:
    """Play the past under another seed; whether it went alike."""
    steps = _from_reset(env, seed, past)
    return _difference(steps, _from_reset(env, seed + 1, past)) is None


def _from_reset(env: gym.Env[Any, Any], seed: int, actions: Sequence[Any]) -> list[Step]:
    """The reset of ``env`` as a step, and the steps of ``actions``."""
    observation, _ = env.reset(seed=seed)
    return [(frozen_observation(observation), 0.0, False, False), *_play(env, actions)]


def _play(env: gym.Env[Any, Any], actions: Sequence[Any]) -> list[Step]:
    """The steps of ``actions``, until the episode ends."""
    steps: list[Step] = []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        steps.append((frozen_observation(observation), float(reward), bool(terminated), bool(truncated)))
        if terminated or truncated:
            break
    return steps


def _difference(first: Sequence[Step], second: Sequence[Step]) -> str | None:
    """Where and in what two continuations differ first, or ``None``."""
    for step, (one, other) in enumerate(zip(first, second, strict=False), 1):
        for name, a, b in zip(("observation", "reward", "terminated", "truncated"), one, other, strict=True):
            if a != b and not (a != a and b != b):
                return f"the {name} differs after {step} of {len(first)}"
    return None if len(first) == len(second) else "one continuation ends earlier"


def _disagreement(runs: Sequence[tuple[str, Sequence[Step]]]) -> str | None:
    """The first of the named runs that does not go like the run before all others."""
    (_, first), *others = runs
    for name, other in others:
        fault = _difference(first, other)
        if fault:
            return f"{name}: {fault}"
    return None
