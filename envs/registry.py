"""The environments that branchwise registers with Gymnasium and PettingZoo: ids, versions, splits, opponents, and a
simulator by id.

Importing ``branchwise`` calls :func:`register` (Gymnasium has had no plug-in entry points since 1.0), so that
``gym.make("branchwise/WebShop-v0")`` works after it, and ``gym.make("branchwise.envs:branchwise/WebShop-v0")`` by
itself. Games of several players are registered with both: Gymnasium's id is one player's side, the others played by
``opponents``; PettingZoo's are all sides, one at a time (``"aec"``) or together (``"parallel"``). Entry points are
strings: importing stays light, and specifications can be written as JSON. The version in an id rises with any change of
rules, rewards or text.

The two wrappers that ``gym.make`` would add are switched off: ``SimulatorEnv`` itself refuses steps before a reset and
after the end, and the passive checker's questions are asked once, by the tests, of every row here.

The table of environments is in ``rows.py``.
"""

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from .foreign import foreign_row, gymnasium_simulator
from .opponents import Opponent, named_opponent, opponent_of
from .rows import ENVIRONMENTS, EnvironmentRow
from .shells.gym import SimulatorEnv
from .simulator import Simulator
from .views import VIEW_OPTIONS, SinglePlayerView

if TYPE_CHECKING:
    from .shells.vector import SimulatorVectorEnv
    from .shells.zoo import SimulatorAECEnv, SimulatorParallelEnv


class OptionError(TypeError):
    """An environment has no such option; the message names those that it has."""


def register() -> None:
    """Register every environment with Gymnasium and PettingZoo; a second call changes nothing."""
    for row in ENVIRONMENTS:
        if row.id not in gym.registry:
            gym.register(
                row.id,
                entry_point=f"{__name__}:make_env",
                vector_entry_point=f"{__name__}:make_vector",
                kwargs={"env_id": row.id},
                disable_env_checker=True,
                order_enforce=False,
            )
    _register_games([row for row in ENVIRONMENTS if row.players > 1])


def _register_games(rows: Sequence[EnvironmentRow]) -> None:
    if not rows:
        return
    import pettingzoo

    if not hasattr(pettingzoo, "register"):  # before 1.26: make_aec and make_parallel are all there is
        return
    kinds = (("aec", pettingzoo.aec_registry, "make_aec"), ("parallel", pettingzoo.parallel_registry, "make_parallel"))
    for row in rows:
        for kind, known, maker in kinds:
            if row.id not in known:
                pettingzoo.register(kind, row.id, f"{__name__}:{maker}", kwargs={"env_id": row.id})


def environments() -> tuple[EnvironmentRow, ...]:
    """The registered environments, in the order in which ``branchwise envs`` shows them."""
    return ENVIRONMENTS


def simulator_for(env_id: str, **options: Any) -> Simulator[Any]:
    """The simulator of a registered environment, made with ``options`` (those of ``gym.make``).

    A game's has all its players, unless ``options`` has ``player`` or ``opponents``: then it is a ``SinglePlayerView``,
    as in ``gym.make``. Raises ``ValueError`` for an unknown id (naming near ones) and ``TypeError`` for an unknown
    option (naming those that are accepted).
    """
    row = environment_row(env_id)
    _check_options(row, options)
    view = {name: options.pop(name) for name in VIEW_OPTIONS if row.players > 1 and name in options}
    if view:
        return _view(row, options, **{**VIEW_OPTIONS, **view})
    return _rules(row, options)


def make_env(env_id: str, render_mode: str | None = None, **options: Any) -> SimulatorEnv[Any]:
    """The Gymnasium environment of a row: for a game the side of ``player`` against ``opponents`` (options too)."""
    row = environment_row(env_id)
    _check_options(row, options)
    if row.entry_point:
        made: Any = load_env_creator(row.entry_point)(render_mode=render_mode, **options)
        return made
    if row.players > 1:
        options = {**VIEW_OPTIONS, **options}
    return SimulatorEnv(simulator_for(env_id, **options), render_mode=render_mode)


# Gymnasium looks here for what a mode can be made of: it shows "human" and keeps "rgb_array_list" by "rgb_array".
make_env.metadata = {"render_modes": ["ansi", "rgb_array", "svg"], "render_fps": 1}  # type: ignore[attr-defined]


def make_vector(
    env_id: str,
    num_envs: int = 1,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    **options: Any,
) -> "SimulatorVectorEnv":
    """``num_envs`` episodes of a row in one process, over one simulator; ``max_episode_steps`` as for ``gym.make``."""
    from .shells.vector import SimulatorVectorEnv

    return SimulatorVectorEnv(make_env(env_id, **options).simulator, num_envs, render_mode, max_episode_steps)


def make_aec(
    env_id: str,
    render_mode: str | None = None,
    max_cycles: int | None = None,
    text: bool = False,
    words: bool = False,
    **options: Any,
) -> "SimulatorAECEnv":
    """The PettingZoo environment of a game, one player acting at a time; ``text``, ``words``: see ``shells.zoo``."""
    from .shells.zoo import SimulatorAECEnv

    rules, name = simulator_for(env_id, **options), _zoo_name(env_id)
    return SimulatorAECEnv(rules, render_mode, max_cycles=max_cycles, text=text, words=words, name=name)


def make_parallel(
    env_id: str,
    render_mode: str | None = None,
    max_cycles: int | None = None,
    text: bool = False,
    words: bool = False,
    **options: Any,
) -> "SimulatorParallelEnv":
    """The PettingZoo environment of a game, all players answering in each cycle."""
    from .shells.zoo import SimulatorParallelEnv

    rules, name = simulator_for(env_id, **options), _zoo_name(env_id)
    return SimulatorParallelEnv(rules, render_mode, max_cycles=max_cycles, text=text, words=words, name=name)


def opponent_for(env_id: str, name: str | Opponent) -> Opponent:
    """The opponent that a row calls ``name``; ``ValueError`` lists the names."""
    return named_opponent(name, dict(environment_row(env_id).opponents))


def accepted_options(env_id: str) -> dict[str, Any]:
    """Names and defaults of the options of a registered environment: the keyword arguments of its simulator, and for
    games ``player`` and ``opponents``."""
    row = environment_row(env_id)
    parameters = inspect.signature(_maker(row)).parameters.values()
    options = {p.name: p.default for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    return {**options, **(VIEW_OPTIONS if row.players > 1 else {})}


def described(row: EnvironmentRow) -> dict[str, Any]:
    """A row as data that JSON can hold, with its options and their defaults (``None`` where there is none, or where it
    is a function)."""
    options = {
        name: None if default is inspect.Parameter.empty or callable(default) else default
        for name, default in accepted_options(row.id).items()
    }
    return {**asdict(row), "options": options}


def environment_row(env_id: str) -> EnvironmentRow:
    """The row of ``env_id``: ``branchwise/`` may be left out, and so may the version where there is one alone; letters'
    case does not matter. Other packages' environments have rows too (``foreign.py``): ``my_package:MyEnv-v0``, ids that
    are registered with Gymnasium, ``my_module:MyRules``. ``ValueError`` names near ids.

    >>> environment_row("webshop-v0").id, environment_row("Hex").id
    ('branchwise/WebShop-v0', 'branchwise/Hex-v0')
    """
    module, _, wanted = env_id.rpartition(":")
    if module and module.partition(".")[0] != "branchwise" and (row := foreign_row(env_id)):
        return row
    rows = {row.id: row for row in ENVIRONMENTS}
    by_name = {name.rpartition("/")[2].lower(): name for name in rows}
    short = wanted.lower().removeprefix("branchwise/")
    if short in by_name:
        return rows[by_name[short]]
    versions = [row for name, row in by_name.items() if _unversioned(name) == short]
    if len(versions) == 1:
        return rows[versions[0]]
    if row := foreign_row(env_id):
        return row
    # Without versions, which every id has, and which would make any two short names alike.
    kinds = {_unversioned(name): row for name, row in by_name.items()}
    if _unversioned(short) not in kinds and (game := _open_spiel_game(_unversioned(short))):
        raise ValueError(f"No environment {env_id!r}: it is a game of OpenSpiel-v0, with --option game={game}.")
    near = difflib.get_close_matches(_unversioned(short.rpartition("/")[2]), kinds, n=3, cutoff=0.6)
    meant = f"did you mean {' or '.join(kinds[name] for name in near)}? " if near else ""
    raise ValueError(f"No environment {env_id!r}: {meant}Registered: {', '.join(rows)}.")


def _unversioned(name: str) -> str:
    return re.sub(r"-v\d*$", "", name)


def _open_spiel_game(name: str) -> str:
    """OpenSpiel's name of the game ``name``, written with underscores or without; empty where it has none."""
    try:
        import pyspiel
    except ImportError:
        return ""
    games = {game.replace("_", ""): game for game in pyspiel.registered_names()}
    return games.get(name.replace("_", ""), "")


def _check_options(row: EnvironmentRow, options: dict[str, Any]) -> None:
    made = _maker(row)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(made).parameters.values()):
        return
    accepted = accepted_options(row.id)
    unknown = sorted(options.keys() - accepted.keys())
    if row.players == 1 and (view := [name for name in unknown if name in VIEW_OPTIONS]):
        raise OptionError(f"{row.id} has one player, so it has no {' and no '.join(view)}; leave it out.")
    if unknown:
        near = [name for wrong in unknown for name in difflib.get_close_matches(str(wrong), accepted, 1)]
        meant = f"did you mean {' and '.join(near)}? " if near else ""
        raise OptionError(
            f"{row.id} has no option {', '.join(map(repr, unknown))}; {meant}accepted: {', '.join(accepted) or 'none'}."
        )


def _view(
    row: EnvironmentRow,
    options: dict[str, Any],
    player: int,
    opponents: Any,
) -> SinglePlayerView:
    rules, named = _rules(row, options), dict(row.opponents)
    seats: Any = [opponents] * rules.players if _may_play(opponents) else opponents
    if not isinstance(seats, Sequence) or len(seats) != rules.players or not all(map(_may_play, seats)):
        *names, last = map(repr, dict.fromkeys(("random", *named)))
        known = f"{', '.join(names)} or {last}" if names else last
        raise ValueError(
            f"opponents={opponents!r}: expected {known}, a function (simulator, state, generator) -> action, shares by "
            f"name such as {{random: 1}}, or a list of {rules.players} of them, one a player (that of the viewed player"
            " is not asked)."
        )
    return SinglePlayerView(rules, player, [opponent_of(one, named) for one in seats])


def _may_play(opponent: Any) -> bool:
    return isinstance(opponent, str | Mapping) or callable(opponent)


def _rules(row: EnvironmentRow, options: dict[str, Any]) -> Simulator[Any]:
    return _maker(row)(**options)


def _maker(row: EnvironmentRow) -> Any:
    made: Any = load_env_creator(row.simulator)
    return partial(made, row.id) if made is gymnasium_simulator else made


def _zoo_name(env_id: str) -> str:
    """PettingZoo's way of writing an id: ``branchwise/ConnectFour-v0`` is ``connect_four_v0``."""
    name = env_id.rpartition("/")[2].replace("-v", "_v")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
