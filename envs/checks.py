"""Checks of what environments say and keep: hostile text, environments of pure text, snapshots.

:func:`check_hostile_steps` gives hostile texts to a simulator, :func:`check_zoo_text` does for pure-text environments
what PettingZoo's ``api_test`` does for numbers (it crashes on texts): agents, rewards, ends, spaces, determinism,
hostile text; :func:`check_snapshot` holds an environment to its snapshots. All are public through
``branchwise.testing``, which has the check of whole simulators. A failure is an ``AssertionError`` that says which
promise broke, and the cure.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gymnasium import spaces

from .abilities import suggested_actions
from .adapters.branching import frozen_observation
from .hostile_texts import hostile_texts
from .opponents import past_chance
from .shells.gym import SimulatorEnv, UnicodeText
from .simulator import TERMINAL, Simulator

_SPACE = UnicodeText(SimulatorEnv.max_observation_length)


def promise(kept: bool, what: str, cure: str) -> None:
    """``AssertionError`` where a promise was not ``kept``, with ``what`` was promised and the ``cure``."""
    if not kept:
        raise AssertionError(f"broken promise: {what}. Cure: {cure}.")


def short(value: Any) -> str:
    """``value`` as a message can show it: the start and the end of what is long."""
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]}… ({len(text)} characters) …{text[-60:]}"


def check_hostile_steps(simulator: Simulator[Any], count: int = 1_000, seed: int = 0) -> int:
    """Give ``simulator`` ``count`` hostile texts, spread over episodes of random actions; returns how many it counted
    as invalid. None may raise, change the state that it was given, or lead to an observation outside of the space that
    environments declare; where the legal actions are listed, a text that holds none of them must be counted."""
    rng = random.Random(seed)
    state = _to_a_player(simulator, simulator.reset(seed), rng)
    texts = hostile_texts(count, seed, _sensible(simulator, state))
    invalid = 0
    for start in range(0, count, max(1, count // 20)):
        while simulator.current_player(state) == TERMINAL:
            seed += 1
            state = _to_a_player(simulator, simulator.reset(seed), rng)
        for text in texts[start : start + max(1, count // 20)]:
            invalid += _hostile_step(simulator, state, text)
        state = _to_a_player(simulator, simulator.step(state, rng.choice(_sensible(simulator, state))), rng)
    return invalid


def _hostile_step(simulator: Simulator[Any], state: Any, text: str) -> bool:
    """Whether ``text`` was counted as invalid."""
    shown = f"{text[:100]!r} ({len(text)} characters)"
    before, outside = hash(state), ""
    try:
        after = simulator.step(state, text)
        counted = bool(simulator.info(after)["invalid_action"])
        for player in range(simulator.players):
            seen = simulator.observation(after, player)
            seen.encode("utf-8")
            outside = outside or ("" if seen in _SPACE else seen)
    except Exception as error:
        raise AssertionError(
            f"broken promise: step never raises on text: {shown} raised {type(error).__name__}: {error}. "
            "Cure: answer with a state whose info has invalid_action set."
        ) from error
    promise(
        not outside,
        f"an observation is in the space that environments declare, {_SPACE}: given {shown}, {short(outside)}",
        "pass what others wrote through characters.within_planes, and replace what str.isprintable refuses",
    )
    promise(hash(state) == before, f"a step leaves its state alone, given {shown}", "build a new state")
    legal = simulator.legal_actions(state)
    if legal is not None and not any(_plain(action) in _plain(text) for action in legal):
        promise(counted, f"{shown} holds no legal action and is counted as invalid", "set invalid_action in info")
    return counted


def _plain(text: str) -> str:
    """``text`` without case and blanks, which simulators may overlook."""
    return "".join(text.casefold().split())


def _to_a_player(simulator: Simulator[Any], state: Any, rng: random.Random) -> Any:
    """The first state from ``state`` on in which somebody is to move, or the end."""
    return past_chance(simulator, state, lambda state: rng.choice(simulator.chance_outcomes(state))[0])[0]


def _sensible(simulator: Simulator[Any], state: Any) -> Sequence[str]:
    return suggested_actions(simulator, state) or ("yes",)


def check_zoo_text(make: Callable[[], Any], *, seeds: Sequence[int] = (0, 1, 2), max_steps: int = 1_000) -> None:
    """Hold a pure-text ``AECEnv`` to PettingZoo's promises: ``make()`` makes one.

    Texts are in their spaces; agents, rewards, ends and infos have the same keys; ``last()`` pays what was earned since
    the agent's last turn; agents leave when they are done and never come back; nobody is done after a reset; two
    environments with one seed say the same; numbers, nothing and hostile text as an action do not raise, and are
    counted as invalid. Actions are drawn from ``info["admissible_commands"]``.
    """
    for seed in seeds:
        first, second = make(), make()
        trail = _walk(first, seed, max_steps)
        promise(trail == _walk(second, seed, max_steps), f"seed {seed} is the same episode twice", "draw from the seed")
        promise(len(trail) < max_steps, f"an episode ends within {max_steps} steps (seed {seed})", "add a budget")
    env = make()
    for action in (None, 3, b"yes", *hostile_texts(50)):
        env.reset(seed=seeds[0])
        agent = env.agent_selection
        try:
            env.step(action)
        except Exception as error:
            raise AssertionError(
                f"broken promise: no action raises: {str(action)[:100]!r} raised {error!r}."
            ) from error
        if agent in env.infos:
            told = env.infos[agent].get("invalid_action")
            promise(
                isinstance(told, bool),
                f"infos say whether {str(action)[:50]!r} was valid: {told!r}",
                "set invalid_action",
            )
        for name in env.agents:
            seen = env.observe(name)
            promise(
                seen in env.observation_space(name),
                f"the observation of {name} is in its space, given {str(action)[:50]!r}: {short(seen)}",
                "replace characters that the space does not hold",
            )


def _walk(env: Any, seed: int, max_steps: int) -> list[Any]:
    """One episode of random actions, every promise checked; returns what was said."""
    rng = random.Random(seed)
    env.reset(seed=seed)
    promise(bool(env.agents), "somebody plays after a reset", "fill agents in reset()")
    promise(
        not any(env.terminations.values()) and not any(env.truncations.values()),
        "nobody is done after a reset",
        "reset()",
    )
    trail: list[Any] = []
    owed = dict.fromkeys(env.agents, 0.0)
    gone: set[str] = set()
    while env.agents and len(trail) < max_steps:
        agent = env.agent_selection
        promise(agent in env.agents and agent not in gone, f"{agent} is still playing", "remove agents for good")
        observation, reward, terminated, truncated, info = env.last()
        promise(
            observation in env.observation_space(agent), f"the observation of {agent} is in its space", "UnicodeText"
        )
        promise(
            isinstance(env.action_space(agent), spaces.Text),
            f"{agent} acts in text",
            "give it a Text space",
        )
        promise(abs(reward - owed[agent]) < 1e-9, f"last() pays {agent} {owed[agent]}, and not {reward}", "accumulate")
        promise(not (terminated and truncated), "an episode is terminated or truncated, never both", "choose one")
        trail.append((agent, observation, reward, terminated, truncated, sorted(info)))
        over = terminated or truncated
        env.step(None if over else rng.choice(info["admissible_commands"] or ["yes"]))
        owed[agent] = 0.0
        if over:
            gone.add(agent)
        for name, earned in env.rewards.items():
            owed[name] = owed.get(name, 0.0) + earned
        for told in (env.rewards, env.terminations, env.truncations, env.infos):
            promise(
                set(told) == set(env.agents), f"every dict has the agents {env.agents}, not {list(told)}", "drop them"
            )
    return trail


def check_snapshot(
    env: Any,
    *,
    seeds: Iterable[int] = range(3),
    actions: Sequence[Any] = (),
    steps: int = 12,
    depths: Sequence[int] = (0, 1, 4),
) -> None:
    """Hold ``env`` (of Gymnasium's interface, with ``snapshot()`` and ``restore(snapshot)``, wrapped or not) to this: a
    restored snapshot shows the same observation and goes on the same way, as often as it is restored, whatever happened
    in between. Actions are drawn from ``info["admissible_commands"]``, else from ``actions``, else from the action
    space; ``depths`` are the steps after which snapshots are taken, ``steps`` how far each is followed. Leaves ``env``
    in the middle of an episode.
    """
    take, restore = _snapshot_methods(env)
    for seed in seeds:
        for depth in depths:
            rng = random.Random(f"{seed} {depth}")
            observation, info = env.reset(seed=seed)
            for _ in range(depth):
                action = _env_action(env, info, actions, rng)
                before, seen = take(), (observation, info)
                observation, _, terminated, truncated, info = env.step(action)
                if terminated or truncated:
                    restore(before)
                    observation, info = seen
                    break
            kept = take()
            first = _continuation(env, info, actions, rng, steps)
            futures = [action for action, _ in first]
            for attempt in ("once", "twice", "after another episode"):
                if attempt == "after another episode":
                    env.reset(seed=seed + 1)
                returned = restore(kept)
                where = f"seed {seed}, {depth} steps in, restored {attempt}"
                if isinstance(returned, tuple) and len(returned) == 2:
                    promise(
                        frozen_observation(returned[0]) == frozen_observation(observation),
                        f"restore() shows the observation of its snapshot ({where}): "
                        f"{short(returned[0])} instead of {short(observation)}",
                        "let restore() bring back everything that the observation is made of",
                    )
                for number, (action, (_, said)) in enumerate(zip(futures, first, strict=True), 1):
                    try:
                        again: Any = _step(env, action)
                    except Exception as error:  # the original went on, so a refusal is a finding
                        again = error
                    promise(
                        again == said,
                        f"a restored snapshot goes on like the original ({where}): step {number}, action "
                        f"{short(action)}, gave {short(again)} instead of {short(said)}",
                        "keep every changing part in the snapshot (counters of wrappers and random generators "
                        "included), and never change an object that a snapshot refers to",
                    )


def _snapshot_methods(env: Any) -> tuple[Any, Any]:
    for owner in (env, getattr(env, "unwrapped", env)):
        if callable(getattr(owner, "snapshot", None)) and callable(getattr(owner, "restore", None)):
            return owner.snapshot, owner.restore
    raise AssertionError(
        f"broken promise: {env!r} has snapshot() and restore(snapshot). Cure: write both, or wrap the environment: "
        "SimulatorEnv(GymnasiumSimulator(…)) gives them to any environment that can be replayed."
    )


def _env_action(env: Any, info: Mapping[str, Any], actions: Sequence[Any], rng: random.Random) -> Any:
    shown = [command for command in info.get("admissible_commands") or () if "…" not in command]
    if shown or actions:
        # Given actions are for where nothing definite is shown, such as a search field.
        return rng.choice(shown or list(actions))
    env.action_space.seed(rng.randrange(2**31))
    return env.action_space.sample()


def _step(env: Any, action: Any) -> tuple[Any, ...]:
    observation, reward, terminated, truncated, info = env.step(action)
    known = {key: info.get(key) for key in ("success", "invalid_action", "admissible_commands")}
    return frozen_observation(observation), float(reward), bool(terminated), bool(truncated), known


def _continuation(
    env: Any, info: Mapping[str, Any], actions: Sequence[Any], rng: random.Random, steps: int
) -> list[tuple[Any, tuple[Any, ...]]]:
    done: list[tuple[Any, tuple[Any, ...]]] = []
    while len(done) < steps:
        action = _env_action(env, info, actions, rng)
        said = _step(env, action)
        done.append((action, said))
        info = said[-1]
        if said[2] or said[3]:
            break
    return done
