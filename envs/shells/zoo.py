"""The PettingZoo shells: any ``Simulator`` as an ``AECEnv`` or a ``ParallelEnv``.

Two forms of each. The default one is for classic multi-agent learning: an action is a number (``Discrete``), an
observation is ``{"observation": numbers, "action_mask": int8}``, and ``infos[agent]`` has the same few flags for every
agent at any time, so that TorchRL can make tensors of them. With ``words=True`` it also has what the player reads
(``"text"``), its actions (``"legal_actions"``, index → text) and the game's own facts; text is accepted as an action
too. The form ``text=True`` is for language models: observations and actions are texts, and infos have the words.
(PettingZoo's ``api_test`` crashes on texts; ``branchwise.testing.check_zoo_text`` checks that form.) How actions get
their numbers stands in ``abilities``.

Luck is drawn from a stream that the episode's seed fixes. An action that makes no sense leaves its player to move and
sets ``infos[agent]["invalid_action"]``, within the budget of the game; nothing raises on what an action says.
Interface: PettingZoo 1.25 and later (Terry et al., 2021).

Not handled here: players that leave before the end (all are done when the game is).
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from pettingzoo.utils.env import AECEnv, ParallelEnv

from ..abilities import ActionTable, array_of, array_space, success_of, suggested_actions
from ..arguments import checked_seed
from ..opponents import borrow_generator, draw_outcome, past_chance, return_generator
from ..simulator import CHANCE, TERMINAL, Simulator
from .gym import SimulatorEnv, UnicodeText, not_a_snapshot, rendered

_SEEDS = 2**31
_NOBODY: frozenset[int] = frozenset()
_API_TEST_OPTIONS = {"options": 1}  # what PettingZoo's api_test resets every environment with
_NUMBERS: Any = (int, np.integer)  # `int | np.integer` would make a union object at each use


class _Table:
    """What both shells share: the simulator, the players' names and spaces, one state, its luck and its rendering."""

    def __init__(
        self,
        simulator: Simulator[Any],
        render_mode: str | None,
        max_cycles: int | None,
        text: bool,
        words: bool,
        name: str,
    ) -> None:
        modes = ["human", "ansi", "rgb_array", *(["svg"] if hasattr(simulator, "svg") else [])]
        if render_mode not in (None, *modes):
            raise ValueError(f"render_mode={render_mode!r}: expected None or one of {modes}.")
        if max_cycles is not None and max_cycles < 1:
            raise ValueError(f"max_cycles={max_cycles}: expected at least 1, or None.")
        self.metadata = {"name": name, "render_modes": modes, "render_fps": 1, "is_parallelizable": False}
        self.simulator = simulator
        self.render_mode = render_mode
        self.max_cycles = max_cycles
        self.text, self.words = text, words or text
        self.state_now: Any = None
        self.possible_agents = [f"player_{i}" for i in range(simulator.players)]
        self.agents: list[str] = []
        self._names = tuple(self.possible_agents)
        self.observation_spaces: dict[str, spaces.Space[Any]]
        self.action_spaces: dict[str, spaces.Space[Any]]
        self._numbers = {name: i for i, name in enumerate(self._names)}
        self._no_actions = self._all_actions = np.zeros(0, np.int8)
        if text:
            self.observation_spaces = {a: UnicodeText(SimulatorEnv.max_observation_length) for a in self._names}
            self.action_spaces = {a: UnicodeText(SimulatorEnv.max_action_length) for a in self._names}
        else:
            self._actions = ActionTable(simulator)
            self._no_actions = np.zeros(self._actions.n, np.int8)
            self._all_actions = np.ones(self._actions.n, np.int8)
            self._no_actions.flags.writeable = self._all_actions.flags.writeable = False
            box = array_space(simulator)
            mask = spaces.MultiBinary(self._actions.n)
            self.observation_spaces = {a: spaces.Dict({"observation": box, "action_mask": mask}) for a in self._names}
            self.action_spaces = {a: spaces.Discrete(self._actions.n) for a in self._names}
        self._seeds: np.random.Generator | None = None
        self._seeds_from: int | None = None
        self._seed = 0
        self._draws = 0

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.action_spaces[agent]

    def render(self) -> str | np.ndarray | None:
        """The state as the player to move reads it, as ``rendered`` shows it; printed in mode ``"human"``."""
        if self.render_mode is None or self.state_now is None:
            return None
        player = max(self.simulator.current_player(self.state_now), 0)
        if self.render_mode != "human":
            return rendered(self.simulator, self.state_now, player, self.render_mode)
        print(rendered(self.simulator, self.state_now, player, "ansi"))
        return None

    def close(self) -> None:
        """Nothing is held open."""

    def _need_a_state(self, asked: str) -> None:
        if self.state_now is None:
            raise ResetNeeded(f"{asked}() was called before reset(): call reset() first.")

    def _start(self, seed: int | None, options: dict[str, Any] | None) -> None:
        if seed is not None:
            seed = checked_seed(seed)
            self._seeds, self._seeds_from = None, seed
        else:
            if self._seeds is None:  # not before: seeding takes longer than an episode of a small game
                self._seeds = np.random.default_rng(self._seeds_from)
            seed = int(self._seeds.integers(_SEEDS))
        self._seed, self._draws = seed, 0
        self._invalid = _NOBODY
        if options == _API_TEST_OPTIONS:
            options = None
        self.state_now = self.simulator.reset(seed, options)
        self.agents = list(self._names)

    def _play_chance(self, earned: list[float] | None) -> int:
        """Draw luck until somebody is to move; returns who, and adds to ``earned`` what the draws paid."""
        simulator = self.simulator
        mover = simulator.current_player(self.state_now)
        if mover != CHANCE:
            return mover

        def draw(state: Any) -> str:
            rng = borrow_generator(self._seed, self._draws)
            self._draws += 1
            outcome = draw_outcome(simulator, state, rng)
            return_generator(rng)
            return outcome

        def passed(state: Any) -> None:
            if earned is not None:
                for player, reward in enumerate(simulator.rewards(state)):
                    earned[player] += reward

        self.state_now, mover = past_chance(simulator, self.state_now, draw, passed)
        return mover

    def _meant(self, action: Any) -> str:
        """The text of ``action``: itself, or that of its number; anything else is named by its type."""
        if not self.text and isinstance(action, _NUMBERS) and type(action) is not bool:
            return self._actions.text(self.state_now, action)
        return str(action) if isinstance(action, str) else f"<{type(action).__name__}>"

    def _told(self, player: int, to_move: bool, texts: dict[int, str], info: dict[str, Any]) -> dict[str, Any]:
        """``info``, the simulator's of the state, made that of a player; without words, the flags alone."""
        simulator, state = self.simulator, self.state_now
        success = success_of(simulator, state, player) if player else info["success"]
        flags = {"success": success, "invalid_action": player in self._invalid}
        if not self.words:
            return flags
        info.update(flags)
        if self.text:
            info["admissible_commands"] = simulator.admissible_commands(state) if to_move else []
        else:
            info["text"] = simulator.observation(state, player)
            info["legal_actions"] = texts
        return info


def _no_news() -> dict[str, Any]:
    """The flags of a player who has not acted since the start."""
    return {"success": False, "invalid_action": False}


class SimulatorAECEnv(_Table, AECEnv):  # type: ignore[misc]
    """A PettingZoo environment in which the players of ``simulator`` act one at a time.

    ``infos`` has the flags of all players at any time, and the words of the player to move and, at the end, of all;
    ``max_cycles`` truncates when a player who had that many turns would come to move again. ``snapshot()`` and
    ``restore(snapshot)`` keep and bring back everything that the rest of the episode depends on.
    """

    def __init__(
        self,
        simulator: Simulator[Any],
        render_mode: str | None = None,
        *,
        max_cycles: int | None = None,
        text: bool = False,
        words: bool = False,
        name: str = "simulator_v0",
    ) -> None:
        AECEnv.__init__(self)
        _Table.__init__(self, simulator, render_mode, max_cycles, text, words, name)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self._start(seed, options)
        names = self._names
        self.rewards = dict.fromkeys(names, 0.0)
        self._paid = False
        self._cumulative_rewards = dict.fromkeys(names, 0.0)
        self.terminations = dict.fromkeys(names, False)
        self.truncations = dict.fromkeys(names, False)
        self.infos: dict[str, dict[str, Any]] = {name: _no_news() for name in names}
        self._turns = [0] * len(names)
        self._skip_agent_selection = None
        self.agent_selection = names[0]
        self._hand_over(self._play_chance(None), self.simulator.info(self.state_now))

    def observe(self, agent: str) -> Any:
        self._need_a_state("observe")
        if self.text:
            return self.simulator.observation(self.state_now, self._numbers[agent])
        array = array_of(self.simulator, self.state_now, self._numbers[agent])
        return {"observation": array, "action_mask": self._mask if agent == self._mover else self._no_actions}

    def last(self, observe: bool = True) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As PettingZoo's: what the agent to act reads, what it has earned since its last turn, its ends and infos."""
        self._need_a_state("last")
        answer: tuple[Any, float, bool, bool, dict[str, Any]] = super().last(observe)
        return answer

    def agent_iter(self, max_iter: int = 2**63) -> Any:
        """As PettingZoo's: the agents in the order in which they act."""
        self._need_a_state("agent_iter")
        return super().agent_iter(max_iter)

    def step(self, action: Any) -> None:
        if not self.agents:
            raise ResetNeeded("step() was called outside an episode: call reset() first.")
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        simulator, player = self.simulator, self._numbers[agent]
        self._cumulative_rewards[agent] = 0.0
        self._turns[player] += 1
        state = self.state_now = simulator.step(self.state_now, self._meant(action))
        info = simulator.info(state)
        self._invalid = frozenset({player}) if info["invalid_action"] else _NOBODY
        self.infos[agent] = {"success": False, "invalid_action": info["invalid_action"]}
        earned: Sequence[float] = simulator.rewards(state)
        mover = simulator.current_player(state)
        if mover == CHANCE:
            earned = list(earned)
            mover = self._play_chance(earned)
            info = simulator.info(self.state_now)
        pays = any(earned)
        if pays or self._paid:  # most steps of most games pay nobody
            self._paid = pays
            for name, reward in zip(self._names, earned, strict=True):
                self.rewards[name] = reward
                self._cumulative_rewards[name] += reward
        self._hand_over(mover, info)

    def snapshot(self) -> Hashable:
        """Everything that the rest of the episode depends on; immutable."""
        self._need_a_state("snapshot")
        return (
            self.state_now,
            self._seed,
            self._draws,
            tuple(self._turns),
            tuple(self._cumulative_rewards.items()),
            self._invalid,
        )

    def restore(self, snapshot: Any) -> None:
        """Go to what :meth:`snapshot` gave, here or in an environment over an equal simulator, as its last step left
        it: ``rewards``, which only that step's reader needs, are zeros."""
        try:
            state, seed, draws, turns, cumulative, invalid = snapshot
            mover, info = self.simulator.current_player(state), self.simulator.info(state)
        except Exception as error:  # whatever a simulator raises about what is no state of its own
            raise not_a_snapshot(snapshot) from error
        self.state_now, self._seed, self._draws, self._turns = state, seed, draws, list(turns)
        self._cumulative_rewards, self._invalid = dict(cumulative), invalid
        self.agents = [name for name in self._names if name in self._cumulative_rewards]
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._paid = False
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {name: _no_news() for name in self.agents}
        self._skip_agent_selection = None
        self._hand_over(mover, info)

    def _hand_over(self, mover: int, info: dict[str, Any]) -> None:
        """Make ``mover`` the agent to act, or end the episode for all; ``info`` is the simulator's of the state."""
        cut = self.max_cycles is not None and mover != TERMINAL and self._turns[mover] >= self.max_cycles
        if mover != TERMINAL and not cut:
            self.agent_selection = self._mover = name = self._names[mover]
            texts: dict[int, str] = {}
            if not self.text:
                self._mask, texts = self._actions.choices(self.state_now)
            self.infos[name] = self._told(mover, True, texts, info)
            return
        self._mover = ""
        truncated = cut or self.simulator.truncated(self.state_now)
        for name in self.agents:
            self.truncations[name], self.terminations[name] = truncated, not truncated
            self.infos[name] = self._told(self._numbers[name], False, {}, dict(info))
        self._deads_step_first()


class SimulatorParallelEnv(_Table, ParallelEnv):  # type: ignore[misc]
    """A PettingZoo environment in which all players of ``simulator`` answer in each cycle.

    A simulator writes simultaneous moves as successive ones that the others do not see, and says by
    ``simultaneous_players(state)`` (``abilities``) which players move together. A cycle asks everybody and plays the
    answers of those; in games where players take turns that is one. ``infos[agent]["to_move"]`` says whose answer
    counts. The others' answers are ignored, so their masks admit every action: an empty mask has no distribution to
    sample from. An invalid action ends the cycle before the players after it were heard.
    """

    def __init__(
        self,
        simulator: Simulator[Any],
        render_mode: str | None = None,
        *,
        max_cycles: int | None = None,
        text: bool = False,
        words: bool = False,
        name: str = "simulator_v0",
    ) -> None:
        _Table.__init__(self, simulator, render_mode, max_cycles, text, words, name)
        self.metadata["is_parallelizable"] = True

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        self._start(seed, options)
        self._cycles = 0
        self._play_chance(None)
        self._ask()
        return self._shown_to_all()

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        if not self.agents:
            raise ResetNeeded("step() was called outside an episode: call reset() first.")
        if not isinstance(actions, Mapping):
            expected = ", ".join(f"{name!r}: …" for name in self.agents)
            raise ValueError(f"step({repr(actions)[:80]}): expected the agents' actions as a dict: {{{expected}}}.")
        simulator = self.simulator
        earned = [0.0] * simulator.players
        self._invalid = _NOBODY
        for player in tuple(self._moves):
            if simulator.current_player(self.state_now) != player:
                break
            self.state_now = simulator.step(self.state_now, self._meant(actions.get(self._names[player])))
            if simulator.info(self.state_now)["invalid_action"]:
                self._invalid |= {player}
            for other, reward in enumerate(simulator.rewards(self.state_now)):
                earned[other] += reward
        mover = self._play_chance(earned)
        self._cycles += 1
        cut = mover != TERMINAL and self.max_cycles is not None and self._cycles >= self.max_cycles
        over = cut or mover == TERMINAL
        truncated = cut or (over and simulator.truncated(self.state_now))
        self._ask(over)
        observations, infos = self._shown_to_all()
        answer = (
            observations,
            dict(zip(self._names, earned, strict=True)),
            dict.fromkeys(self._names, over and not truncated),
            dict.fromkeys(self._names, truncated),
            infos,
        )
        if over:
            self.agents = []
        return answer

    def _ask(self, over: bool = False) -> None:
        """Find who moves in the coming cycle, and the state in which each will."""
        simulator, state = self.simulator, self.state_now
        self._moves: dict[int, Any] = {}
        if over or simulator.current_player(state) == TERMINAL:
            return
        together = getattr(simulator, "simultaneous_players", None)
        players = [simulator.current_player(state)] if together is None else together(state)
        for player in players:
            self._moves[player] = state
            if len(self._moves) < len(players):
                # What this player does is hidden from the next, so that any of its actions will do.
                state = simulator.step(state, suggested_actions(simulator, state)[0])

    def _shown_to_all(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        now = self.state_now
        observations: dict[str, Any] = {}
        infos: dict[str, dict[str, Any]] = {}
        for player, name in enumerate(self._names):
            to_move = player in self._moves
            self.state_now = self._moves.get(player, now)
            mask, texts = self._all_actions, dict[int, str]()
            if to_move and not self.text:
                mask, texts = self._actions.choices(self.state_now)
            if self.text:
                observations[name] = self.simulator.observation(self.state_now, player)
            else:
                array = array_of(self.simulator, self.state_now, player)
                observations[name] = {"observation": array, "action_mask": mask}
            infos[name] = self._told(player, to_move, texts, self.simulator.info(self.state_now))
            infos[name]["to_move"] = to_move
        self.state_now = now
        return observations, infos
