"""A benchmark whose episodes are kept as they end, and which resumes where it was stopped.

The folder of a benchmark has ``bench.json`` (what is played; a later call must ask for the same),
``episodes/<agent>.jsonl`` (a line an episode, appended and handed to the operating system when it ends) and
``results.json`` (the rows of the table). Every episode draws from a generator of its own, seeded by ``(seed, number of
its task)``, so a run that was stopped, by Ctrl-C or by a kill, and resumed has the episodes of one that was not; what
is lost are the episodes under way. More tasks or other agents may be asked for later: what is there is used.

What it does not do: survive a power cut to the last episode (lines are flushed, not synced).
"""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ..agents.searching import RolloutSearcher
from ..envs.json_files import json_text, parse_json, read_json
from ..envs.play.agent import Agent
from ..envs.play.episode import Episode
from ..envs.play.players import ScriptedAgent
from ..envs.play.playing import run_episodes
from ..envs.play.task import Task, task_key
from ..envs.simulator import Simulator
from ..search.files import atomically
from ..search.records import episode_from_json, episode_line
from .evaluation import ResultRow, summarise
from .line_log import LineLog

SETTINGS: Final = "bench.json"
RESULTS: Final = "results.json"
MODEL_BATCH: Final = 64
"""Episodes that an agent with a model plays at once. Others play one after the other: they have nothing to share."""

Progress = Callable[[int, str], None]


class EpisodeLog(LineLog):
    """The episodes of one agent: those that ``path`` holds for these tasks, and those that are added. A context
    manager; without a path they are kept in memory alone. A last line that was cut off by a kill is dropped."""

    def __init__(self, path: Path | None, tasks: Sequence[Task]) -> None:
        self.ended: dict[int, Episode] = {}
        self.seconds = 0.0
        if path is not None:
            self.open_at(path, self._read(path, tasks) if path.exists() else 0)
        self._last = time.perf_counter()

    def add(self, index: int, episode: Episode) -> None:
        """Keep the episode of task ``index``."""
        seconds = time.perf_counter() - self._last
        self.write(episode_line(episode, seconds=seconds))
        self.ended[index] = episode
        self.seconds += seconds
        self._last += seconds
        self.flush()  # last: Ctrl-C arrives here, and the buffer is written on the way out

    def _read(self, path: Path, tasks: Sequence[Task]) -> int:
        """Take the episodes of ``path`` that belong to ``tasks``; how many bytes of it are whole lines."""
        numbers = {task_key(task): index for index, task in enumerate(tasks)}
        whole = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                row = parse_json(line, f"{path}, line {number}", "remove the file to play anew")
                try:
                    episode, seconds = episode_from_json(row), float(row["seconds"])
                    if not 0 <= seconds < math.inf:
                        raise ValueError(f"seconds={seconds}; expected a number of at least 0")
                except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                    raise ValueError(
                        f"{path}, line {number}: no episode that bench wrote ({error!r}); remove the file to play anew"
                    ) from error
                whole += len(line)
                if (index := numbers.get(task_key(episode.task))) is not None:
                    self.ended[index] = episode
                    self.seconds += seconds
        return whole


class Benchmark:
    """Plays agents on ``tasks`` in ``simulator``, in ``folder`` where one is given. ``settings`` says what is played
    (JSON-able, with ``env``, ``split`` and ``seed``). Raises ValueError where the folder holds something else."""

    def __init__(
        self, simulator: Simulator[Any], tasks: Sequence[Task], settings: Mapping[str, Any], folder: Path | None = None
    ) -> None:
        self.simulator = simulator
        self.tasks = tasks
        self.settings = json.loads(json.dumps(settings, default=str))
        self.folder = folder
        self.rows: list[ResultRow] = []
        if folder is not None:
            _claim(folder, self.settings)

    def play(self, agent: Agent, progress: Progress | None = None) -> ResultRow:
        """The row of one agent, also kept in ``rows``: if the work is stopped on the way, the row of the episodes that
        ended until then."""
        path = None if self.folder is None else self.folder / "episodes" / f"{_file_name(agent.name)}.jsonl"
        batch = 1 if isinstance(agent, ScriptedAgent | RolloutSearcher) else MODEL_BATCH

        def moved(done: int) -> None:
            if progress is not None:
                share = sum(episode.success for episode in log.ended.values()) / max(done, 1)
                progress(done, f"success {100 * share:.0f} %" if done else "")

        with EpisodeLog(path, self.tasks) as log:
            try:
                if progress is not None:
                    moved(len(log.ended))
                run_episodes(
                    self.simulator,
                    self.tasks,
                    agent,
                    self.settings["seed"],
                    batch_size=batch,
                    progress=moved,
                    done=log.ended,
                    ended=log.add,
                )
            finally:
                if log.ended:
                    self.rows.append(self._row(agent, log))
        return self.rows[-1]

    def save(self) -> None:
        """Write the rows to ``results.json``."""
        if self.folder is not None and self.rows:
            with atomically(self.folder / RESULTS) as temporary:
                rows = [asdict(row) for row in self.rows]
                temporary.write_text(json_text(rows, indent=1) + "\n")

    def _row(self, agent: Agent, log: EpisodeLog) -> ResultRow:
        episodes = [log.ended[index] for index in sorted(log.ended)]
        about = {name: self.settings[name] for name in ("env", "split", "seed")}
        return summarise(episodes, agent=agent.name, seconds=log.seconds, **about)


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what is played in ``folder``, or check that it is what was played there before."""
    file = folder / SETTINGS
    if file.exists():
        cure = f"remove {folder}, or name another --out"
        known = read_json(file, cure)
        try:
            other = {name for name in known.keys() | settings.keys() if known.get(name) != settings.get(name)}
        except AttributeError as error:
            raise ValueError(f"{file}: not what bench writes ({error}); {cure}") from error
        if other:
            found = ", ".join(f"{name}={known.get(name)!r}" for name in sorted(other))
            raise ValueError(f"{folder} holds a benchmark with {found}; name another --out, or remove it")
        return
    if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(f"{folder} holds something else than a benchmark; name another --out")
    with atomically(file) as temporary:
        temporary.write_text(json_text(settings, indent=1) + "\n")


def _file_name(agent: str) -> str:
    """An agent's name as that of a file. Where characters are replaced or left out, a hash of the name tells it from
    others that would read alike.

    >>> _file_name("mcts"), _file_name("runs/base/model+mcts")
    ('mcts', 'runs_base_model+mcts-e02fe92c')
    """
    readable = re.sub(r"[^\w+-]+", "_", agent).strip("_")[-100:] or "agent"
    return readable if readable == agent else f"{readable}-{hashlib.sha256(agent.encode()).hexdigest()[:8]}"
