"""The Gymnasium shell: one class that turns any single-player ``Simulator`` into a ``gymnasium.Env``.

The shell holds one state and replaces it; every rule lives in the simulator. That makes a snapshot of the environment a
reference to its state (nothing is copied) and leaves a step with one call each of ``step``, ``current_player``,
``observation``, ``rewards``, ``info`` and ``admissible_commands``. Interface: Gymnasium 1.x (Towers et al., 2024).

Not handled here: several players (the zoo shell), chance nodes (a simulator for one player draws its luck in
``reset``), vectors of environments (``gym.make_vec``; with ``vectorization_mode="async"`` pass
``vector_kwargs={"shared_memory": False}``: Gymnasium's shared memory returns filler for text, so it is refused here).
"""

import itertools
import unicodedata
from collections.abc import Hashable
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import CustomSpaceError, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector.utils import create_shared_memory

from ..arguments import checked_seed
from ..characters import PLANES
from ..simulator import CHANCE, TERMINAL, Simulator
from ..text_image import text_image

State = TypeVar("State", bound=Hashable)

_SEEDS = 2**31


@cache
def _characters() -> tuple[str, ...]:
    """Built once a process, when first asked for (0.05 s): a table a space would cost that at every ``make``."""
    absent = {"Cc", "Cs", "Co", "Cn"}  # control, surrogate, private use, unassigned
    signs = map(chr, itertools.chain(*PLANES))
    return ("\t", "\n", *(sign for sign in signs if unicodedata.category(sign) not in absent))


@cache
def _character_set() -> frozenset[str]:
    return frozenset(_characters())


@cache
def _character_indices() -> dict[str, np.int32]:
    return {character: np.int32(i) for i, character in enumerate(_characters())}


class UnicodeText(spaces.Text):
    """A ``Text`` space over the text of the world: the assigned characters of Unicode's basic plane and the emoji,
    tab and newline (about 58,000), without control characters and surrogates, which no file and no tokenizer takes.

    It is a ``Text`` with an explicit character set to whoever asks, but all instances share one table, so that making,
    copying and pickling one is free (plain ``Text`` with this set: 50 ms, 150 ms, and 2.3 MB). Its shape is ``()`` and
    its dtype ``object``, so that who makes an array for texts, as stable-baselines3 does, gets one that holds them
    whole (of dtype ``str`` it would keep their first letter).
    """

    def __init__(self, max_length: int, *, min_length: int = 0, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(max_length, min_length=min_length, charset=" ", seed=seed)
        self._shape, self.dtype = (), np.dtype(object)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string of admitted length and characters; 10 µs a thousand characters."""
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length and _character_set().issuperset(x)

    @property
    def character_set(self) -> frozenset[str]:
        return _character_set()

    @property
    def character_list(self) -> tuple[str, ...]:
        return _characters()

    @property
    def characters(self) -> str:
        return "".join(_characters())

    def character_index(self, char: str) -> np.int32:
        return _character_indices()[char]

    def __repr__(self) -> str:
        return f"UnicodeText({self.min_length}, {self.max_length})"


@create_shared_memory.register(UnicodeText)
def _refuse_shared_memory(space: UnicodeText, n: int = 1, ctx: Any = None) -> None:
    """Text has no fixed size; Gymnasium's own memory for it answers every reset and step with filler, silently."""
    raise CustomSpaceError(f"{space} has no shared memory; pass vector_kwargs={{'shared_memory': False}} to make_vec.")


def rendered(simulator: Simulator[State], state: State, player: int, mode: str) -> str | np.ndarray:
    """``state`` as ``player`` reads it: the text (``"ansi"``), a picture of it (``"rgb_array"``), or the simulator's
    drawing (``"svg"``)."""
    if mode == "svg":
        return simulator.svg(state)  # type: ignore[attr-defined]
    text = simulator.observation(state, player)
    return text_image(text) if mode == "rgb_array" else text


def not_a_snapshot(given: Any) -> ValueError:
    """What ``restore`` raises about anything that ``snapshot`` did not give."""
    return ValueError(f"restore({repr(given)[:80]}): expected what snapshot() of such an environment returned.")


class SimulatorEnv(gym.Env[str, str], Generic[State]):
    """A Gymnasium environment over ``simulator``, a single-player simulator.

    - Observation: ``simulator.observation(state)``, a ``str``. Action: a ``str``. Anything else given as an action
      (``None``, bytes, a number) becomes the text ``<type name>``, e.g. ``<NoneType>``, which the simulator
      judges like any other text; :meth:`step` never raises because of what an action says.
    - ``info``: ``simulator.info(state)`` and, always, ``admissible_commands``: a fresh list, or ``None`` where any text
      may be an answer.
    - ``reset(seed=s)`` starts the episode ``simulator.reset(s, options)``; ``reset()`` draws a seed from ``np_random``.
    - ``terminated`` and ``truncated`` are never both true. A step after the end raises ``ResetNeeded``.

    No step asks a space whether it contains a text: that would cost more than the step. ``env.simulator`` and
    ``env.state`` may be read at any time (``state`` is ``None`` before the first reset).
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 1,
    }
    max_action_length: ClassVar[int] = 4_096
    max_observation_length: ClassVar[int] = 200_000

    def __init__(self, simulator: Simulator[State], render_mode: str | None = None) -> None:
        if simulator.players != 1:
            raise ValueError(
                f"SimulatorEnv is for one player, and {type(simulator).__name__} has players={simulator.players}; "
                "use the PettingZoo shell for games."
            )
        if hasattr(simulator, "svg"):
            self.metadata = {**self.metadata, "render_modes": [*self.metadata["render_modes"], "svg"]}  # type: ignore[misc]
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode={render_mode!r}: expected None or one of {self.metadata['render_modes']}.")
        self.simulator = simulator
        self.render_mode = render_mode
        self.state: State | None = None
        self._generator: np.random.Generator | None = None
        self.action_space = UnicodeText(self.max_action_length)
        self.observation_space = UnicodeText(self.max_observation_length)
        self._over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start the episode that ``seed`` and ``options`` name; without a seed, one drawn from ``np_random``."""
        if seed is None:
            seed = int(self.np_random.integers(_SEEDS))
        else:
            seed = checked_seed(seed)
            self._generator, self._np_random_seed = None, seed
        state = self.simulator.reset(seed, options)
        self._take(state)
        return self.simulator.observation(state), self._info(state)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Act; returns ``(observation, reward, terminated, truncated, info)``."""
        if self._over:
            raise ResetNeeded(
                "step() was called before reset(): call env.reset() first."
                if self.state is None
                else "step() was called after the end of the episode: call env.reset(), or restore a snapshot."
            )
        if type(action) is not str:
            action = str(action) if isinstance(action, str) else f"<{type(action).__name__}>"
        simulator = self.simulator
        state = simulator.step(self.state, action)  # type: ignore[arg-type]
        self.state = state
        terminated = truncated = False
        if simulator.current_player(state) < 0:
            self._take(state)
            truncated = bool(simulator.truncated(state))
            terminated = not truncated
        info = simulator.info(state)
        info["admissible_commands"] = simulator.admissible_commands(state)
        return simulator.observation(state), float(simulator.rewards(state)[0]), terminated, truncated, info

    @property
    def _np_random(self) -> np.random.Generator | None:
        """Gymnasium's field, made when first asked for: seeding takes longer than an episode of a small game."""
        if self._generator is None and self._np_random_seed is not None:
            self._generator = seeding.np_random(self._np_random_seed)[0]
        return self._generator

    @_np_random.setter
    def _np_random(self, generator: np.random.Generator | None) -> None:
        self._generator = generator

    def snapshot(self) -> State:
        """The state, which is immutable and may be kept, shared, hashed and pickled: a reference, not a copy.

        It holds everything that the rest of the episode depends on. ``np_random`` is left out, since only the choice
        of the *next* episode by an unseeded ``reset()`` reads it.
        """
        if self.state is None:
            raise ResetNeeded("snapshot() was called before reset(): there is no state to keep yet.")
        return self.state

    def restore(self, snapshot: State) -> tuple[str, dict[str, Any]]:
        """Go to a state that :meth:`snapshot` gave, here or in any environment over an equal simulator.

        Returns ``(observation, info)`` as ``reset`` does, those of the step that first reached the state.
        """
        try:
            self.simulator.current_player(snapshot)
            observation, info = self.simulator.observation(snapshot), self._info(snapshot)
        except Exception as error:  # whatever a simulator raises about what is no state of its own
            raise not_a_snapshot(snapshot) from error
        self._take(snapshot)
        return observation, info

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """The present state: its text in mode ``"ansi"``; that text as a picture, uint8 ``[500, 960, 3]``, in mode
        ``"rgb_array"``; the simulator's own drawing in mode ``"svg"``, where it has one."""
        if self.render_mode is None:
            gym.logger.warn('render() shows nothing without a mode: make the environment with render_mode="ansi".')
            return None
        if self.state is None:
            raise ResetNeeded("render() was called before reset(): there is nothing to show yet.")
        return rendered(self.simulator, self.state, 0, self.render_mode)

    def _take(self, state: State) -> None:
        player = self.simulator.current_player(state)
        if player == CHANCE:
            raise ValueError(
                f"{type(self.simulator).__name__} has chance nodes, which this shell does not play; "
                "draw the episode's luck in reset(seed) instead."
            )
        self.state, self._over = state, player == TERMINAL

    def _info(self, state: State) -> dict[str, Any]:
        info = self.simulator.info(state)
        info["admissible_commands"] = self.simulator.admissible_commands(state)
        return info
