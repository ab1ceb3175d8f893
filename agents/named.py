"""Agents by the names that a person gives them: players by rule, plain search, models from a folder or the hub.

What it does not do: settings of a search beyond its number of simulations; ``searching.py`` takes them all. Torch and
transformers are imported where a model is asked for: players by rule need neither.
"""

import difflib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..envs.play.agent import Agent
from ..envs.play.players import PolicyAgent, scripted_agent, scripted_agents
from ..envs.registry import environment_row, environments
from ..search.engine import SearchSettings
from ..search.evaluation import Evaluator, PolicyRollout
from .searching import RolloutSearcher, SearchingAgent

if TYPE_CHECKING:
    from .language_model import LanguageModel

ROLLOUT_SIMULATIONS: Final = 100
"""Simulations of ``mcts`` where no number is given."""


def agents_called(
    name: str,
    env_id: str,
    simulations: int = 0,
    critic: Path | None = None,
    history: str | None = None,
    tell: Callable[[str], None] = print,
) -> list[Agent]:
    """The agents that ``name`` stands for in ``env_id``: a player by rule (``-`` and ``_`` are the same, letters' case
    does not matter), one's own by ``module:name``, ``mcts`` (search with random roll-outs), or a model. With
    ``simulations`` a model comes twice: as it is, and searching, its leaves valued by ``critic`` or, without one, by
    roll-outs to the outcome itself; names of the latter end in ``oracle``.

    ``tell`` is told where the Hugging Face hub is asked. Raises ValueError for a name that is nearly a player's, or a
    player's of another environment, and as :func:`language_model`.
    """
    scripted = scripted_agents(env_id)
    by_rule = {_folded(known): known for known in scripted}
    if (known := by_rule.get(_folded(name))) is not None:
        made = scripted[known]()
        made.name = known
        return [made]
    if ":" in name and not Path(name).exists():
        return [scripted_agent(env_id, name)]
    if name == "mcts":
        kind = "mcts_oracle" if environment_row(env_id).players == 1 else "mcts"
        return [RolloutSearcher(simulations or ROLLOUT_SIMULATIONS, kind)]
    players = ", ".join((*scripted, "mcts"))
    if "/" not in name and not Path(name).exists():
        near = difflib.get_close_matches(_folded(name), [*by_rule, "mcts"], 1, 0.7)
        if near:
            meant = by_rule.get(near[0], near[0])
            raise ValueError(f"no agent {name!r} in {env_id}: did you mean {meant}? Players there: {players}")
        if elsewhere := [row.id for row in environments() if _folded(name) in map(_folded, scripted_agents(row.id))]:
            raise ValueError(f"no agent {name!r} in {env_id}: it plays {elsewhere[0]}. Players here: {players}")
    policy = language_model(name, history, tell, f"no folder here and no player of {env_id} ({players})")
    agents: list[Agent] = [PolicyAgent(policy, name=name)]
    if simulations:
        from .critics import CriticEvaluator, ValueModel

        evaluator: Evaluator = CriticEvaluator(ValueModel.load(critic)) if critic else PolicyRollout(policy)
        settings = SearchSettings(simulations=simulations, hide_outcome=critic is not None)
        agents.append(SearchingAgent(policy, evaluator, settings, f"{name}+{'mcts' if critic else 'mcts_oracle'}"))
    return agents


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")


def language_model(
    source: str,
    history: str | None = None,
    tell: Callable[[str], None] = print,
    unknown: str = "no folder here",
    dtype: str | None = None,
    usual: str = "last_observation",
) -> "LanguageModel":
    """The model in the folder ``source``, or of that id on the Hugging Face hub. ``history``: what it reads; by default
    what was saved with it, else ``usual``. ``unknown`` is said of a source that is no folder.

    Raises ``FileNotFoundError`` or ``ValueError`` where there is no such model, or it is broken.
    """
    from .language_model import SETTINGS_FILE, LanguageModel

    hush()
    if is_hub_id(source):
        _announce(source, unknown, tell)
    if history is None and not (Path(source) / SETTINGS_FILE).is_file():
        history = usual
    given = {"history": history, "dtype": dtype}
    return LanguageModel.load(source, **{name: value for name, value in given.items() if value is not None})


def check_model(source: str, tell: Callable[[str], None] = print) -> None:
    """Raises what :func:`language_model` would where there is no model ``source``, without loading its weights."""
    import transformers

    from .language_model import check_model_folder
    from .pretrained import pretrained

    hush()
    if not is_hub_id(source):
        check_model_folder(source)
        return
    _announce(source, "no folder here", tell)
    pretrained(transformers.AutoConfig, source)


def hush() -> None:
    """No progress bars and no remarks of transformers, from here on."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def is_hub_id(source: str) -> bool:
    """Whether ``source`` can only be an id on the Hugging Face hub."""
    return not Path(source).exists() and not source.startswith((".", "/", "~")) and source.count("/") < 2


def _announce(source: str, unknown: str, tell: Callable[[str], None]) -> None:
    tell(f"{source!r} is {unknown}; asking the Hugging Face hub for it")
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # the error says it in one line
