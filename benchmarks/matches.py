"""Playing strength of the compiled search: matches against OpenSpiel's C++ ``MCTSBot``, connect four and breakthrough.

Both search by UCT with random roll-outs, Q ± 1 and c · √(ln N / n) with c = 2, and start each move from an empty tree;
they change colours after each game. Without a solver the two are not quite the same algorithm: OpenSpiel then gives a
terminal child its bare outcome, without exploration, where ours is an ordinary child. ``solve`` says what both do.

A row: game, our simulations, theirs, solve, games, score (win 1, draw 1/2) with the half-width of its 95 % interval.
Run: ``python benchmarks/matches.py [--games 400] [--only connect_four]`` (about an hour of one core); rows are added to
``benchmarks/results/matches.json``, and to ``docs/compiled_search.md``, as they are done. Not measured: time, which is
``benchmarks/search.py``'s.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyspiel
from pages import put_table

from branchwise.envs.games.board import BoardGame
from branchwise.envs.games.breakthrough import Breakthrough
from branchwise.envs.games.connect_four import ConnectFour
from branchwise.search import compiled
from branchwise.search.engine import Root
from branchwise.search.rules.options import Uct
from branchwise.search.settings import SearchSettings

OUTPUT = Path(__file__).parent / "results" / "matches.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "compiled_search.md"
UCT_C = 2.0
MATCHES = [
    ("connect_four", 1000, 1000, False),
    ("connect_four", 4000, 1000, False),
    ("connect_four", 1000, 1000, True),
    ("breakthrough", 1000, 1000, False),
    ("breakthrough", 4000, 1000, False),
    ("breakthrough", 1000, 1000, True),
]


def in_our_words(name: str, text: str) -> str:
    """OpenSpiel's text of an action as ours; its breakthrough is ours upside down."""
    if name == "connect_four":
        return str(int(text[1:]) + 1)
    return text[0] + str(9 - int(text[1])) + text[2] + str(9 - int(text[3]))


def play(name: str, game: BoardGame, theirs: Any, bot: Any, seat: int, settings: SearchSettings, rng: Any) -> float:
    """Our score, 0 to 1, of one game in which we move as player ``seat``."""
    state, other = game.reset(0), theirs.new_initial_state()
    while not other.is_terminal():
        player = other.current_player()
        table = {in_our_words(name, other.action_to_string(player, action)): action for action in other.legal_actions()}
        if player == seat:
            [tree] = compiled.search(game, [Root(state)], None, None, settings, rng)
            text = tree.best_action()
        else:
            chosen = bot.step(other)
            text = next(word for word, action in table.items() if action == chosen)
        other.apply_action(table[text])
        state = game.step(state, text)
    return (other.returns()[seat] + 1.0) / 2.0


def match(name: str, ours: int, opponents: int, solve: bool, games: int) -> dict[str, Any]:
    game: BoardGame = ConnectFour() if name == "connect_four" else Breakthrough()
    theirs = pyspiel.load_game(name)
    settings = SearchSettings(
        simulations=ours, selection=Uct(exploration=UCT_C / math.sqrt(2.0)), random_ties=True, solve=solve
    )
    rng = np.random.default_rng(0)
    scores = []
    for number in range(games):
        evaluator = pyspiel.RandomRolloutEvaluator(1, number)
        bot = pyspiel.MCTSBot(theirs, evaluator, UCT_C, opponents, 1000, solve, number, False)
        scores.append(play(name, game, theirs, bot, number % 2, settings, rng))
    score = float(np.mean(scores))
    half_width = 1.96 * float(np.std(scores)) / math.sqrt(games)
    row = {"game": name, "simulations": ours, "opponent": opponents, "solve": solve, "games": games}
    return {**row, "score": round(score, 4), "interval": round(half_width, 4)}


def table_of(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| game | our simulations | theirs | solver | games | score |", "|---|---|---|---|---|---|"]
    for row in rows:
        game, solver = row["game"].replace("_", " "), "both" if row["solve"] else "neither"
        score = f"{row['score']:.3f} ± {row['interval']:.3f}"
        lines.append(f"| {game} | {row['simulations']} | {row['opponent']} | {solver} | {row['games']} | {score} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--games", type=int, default=400)
    parser.add_argument("--only", choices=["connect_four", "breakthrough"])
    arguments = parser.parse_args()
    for name, ours, opponents, solve in MATCHES:
        if arguments.only in (None, name):
            row = match(name, ours, opponents, solve, arguments.games)
            print(row, flush=True)
            rows = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else []
            same = ("game", "simulations", "opponent", "solve")
            kept = [old for old in rows if any(old[key] != row[key] for key in same)]
            OUTPUT.parent.mkdir(exist_ok=True)
            OUTPUT.write_text(json.dumps([*kept, row], indent=1) + "\n")
            put_table(PAGE, table_of([*kept, row]), "strength")


if __name__ == "__main__":
    main()
