"""``branchwise search`` without a model, wherever ``bench --agent mcts`` plays: luck, hidden cards, free text."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from branchwise import cli, simulator_for
from branchwise.envs.play.task import start
from branchwise.envs.registry import environments
from branchwise.search.extraction import sibling_pairs
from branchwise.search.presets import preset, suited_settings
from branchwise.search.records import load_pairs
from branchwise.search.store import load_trees, save_trees
from branchwise.search.trees.information_tree import InformationTree
from branchwise.search.trees.tree import Tree

SMALL = {"branchwise/WebShop-v0": ["--option", "products=100"], "branchwise/Hex-v0": ["--option", "size=3"]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("env", [row.id for row in environments() if not row.extra])
def test_every_environment_is_searched_and_its_trees_are_gone_on_with(env: str, here: Path) -> None:
    common = ["search", env, "--goals", 2, *SMALL.get(env, [])]
    run(*common, "--simulations", 8, "--out", "more.parquet")
    run(*common, "--simulations", 12, "--out", "more.parquet")
    run(*common, "--simulations", 12, "--out", "once.parquet")
    assert (here / "more.parquet").read_bytes() == (here / "once.parquet").read_bytes()
    for tree in load_trees("once.parquet"):
        assert tree.counters["simulations"] == 12 or tree.stopped == "solved"
        assert tree.counters["failed_leaves"] == 0
        assert len(tree.children(0)) > 0


def test_a_task_begins_at_the_deal_of_its_seed_or_the_one_that_it_names() -> None:
    game = simulator_for("branchwise/KuhnPoker-v0")
    roots = [start(game, {"seed": seed, "options": {}}) for seed in range(40)]
    for root in roots:
        assert game.current_player(root.state) == 0
        assert start(game, root.task) == root
        assert start(game, {"seed": 7, "dealt": list(root.state.cards)}).state == root.state
    assert len({root.state for root in roots}) == 6  # all deals of two cards out of three


@pytest.mark.parametrize(("env", "hidden"), [("KuhnPoker", True), ("TicTacToe", False), ("WebShop", False)])
def test_settings_suit_what_is_hidden(env: str, hidden: bool) -> None:
    options = {"products": 100} if env == "WebShop" else {}
    suited = suited_settings(simulator_for(f"branchwise/{env}-v0", **options))
    assert suited.get("information") == ("single_observer" if hidden else None)


def test_a_search_of_hidden_cards_does_not_see_them() -> None:
    """With the king in hand and a bet to answer nothing can be lost by calling; with the jack nothing can be won."""
    run("search", "branchwise/KuhnPoker-v0", "--goals", 12, "--simulations", 400, "--out", "kuhn.parquet")
    game = simulator_for("branchwise/KuhnPoker-v0")
    by_card: dict[str, set[float]] = {}
    for tree in load_trees("kuhn.parquet"):
        by_card.setdefault(start(game, tree.task).state.cards[0], set()).add(round(tree.value(0), 1))
    assert all(isinstance(tree, InformationTree) for tree in load_trees("kuhn.parquet"))
    assert max(by_card["J"]) < min(by_card["K"])


def test_pairs_of_information_sets_read_what_their_player_knows(here: Path) -> None:
    game = simulator_for("branchwise/LeducPoker-v0")
    run("search", "branchwise/LeducPoker-v0", "--goals", 2, "--simulations", 120, "--out", "leduc.parquet")
    said = run("pairs", "leduc.parquet", "--out", "pairs.jsonl")
    assert "other's view" in said
    trees = load_trees("leduc.parquet", game)
    pairs = load_pairs(here / "pairs.jsonl")
    assert {pair.node for pair in pairs} > {0}
    for pair in pairs:
        tree = trees[pair.tree]
        if pair.node:
            assert pair.prompt[0].text == tree.actions[pair.node]
            assert tree.player(pair.node) == tree.player(0)
    assert sibling_pairs(trees[0])[0] == sibling_pairs(load_trees("leduc.parquet")[0])[0]


def test_no_pairs_says_what_was_left_out() -> None:
    run("search", "branchwise/TicTacToe-v0", "--goals", 1, "--simulations", 2, "--out", "small.parquet")
    done = CliRunner().invoke(cli.app, ["pairs", "small.parquet", "--out", "pairs.jsonl"])
    assert done.exit_code == 2
    assert "no pairs; left out: 16 unvisited, 2 no contrast, 1 below min_value (anchors)" in done.stderr


def test_pairs_of_trees_that_could_not_grow_say_why(tmp_path: Path) -> None:
    """More simulations would not help."""
    tree = Tree(None, None, (), {"seed": 0})
    tree.counters["dropped_revisits"] = 5
    save_trees(tmp_path / "bare.parquet", [tree])
    done = CliRunner().invoke(cli.app, ["pairs", str(tmp_path / "bare.parquet"), "--out", str(tmp_path / "p.jsonl")])
    assert done.exit_code == 2
    assert "no tree has more than its root: all actions that were tried, 5, led back" in done.stderr


def test_the_number_of_simulations_is_given_once() -> None:
    given = ["search", "branchwise/TicTacToe-v0", "--simulations", "4", "--set", "simulations=5", "--out", "t.parquet"]
    done = CliRunner().invoke(cli.app, given)
    assert done.exit_code == 2
    assert "--simulations and --set simulations=… say the same; leave one out" in done.stderr


def test_a_file_of_another_environment_is_named_as_that() -> None:
    run("search", "branchwise/TicTacToe-v0", "--goals", 1, "--simulations", 2, "--out", "game.parquet")
    given = ["search", "branchwise/ConnectFour-v0", "--goals", "1", "--simulations", "2", "--out", "game.parquet"]
    done = CliRunner().invoke(cli.app, given)
    assert done.exit_code == 2
    assert "its trees (1) are of other tasks (environment, goals, split or options)" in done.stderr


def test_a_search_that_is_done_says_so() -> None:
    given = ["search", "branchwise/TicTacToe-v0", "--goals", 1, "--simulations", 4, "--out", "done.parquet"]
    first, again = run(*given), run(*given)
    assert "nothing was searched again" not in first
    assert (
        again == "done.parquet is done already: nothing was searched again. More --simulations go on with it.\n" + first
    )


def test_a_preset_s_settings_are_searched_with_and_the_command_s_own_lie_over_them() -> None:
    common = ["search", "branchwise/KuhnPoker-v0", "--goals", 1, "--preset", "lats"]
    run(*common, "--out", "lats.parquet")
    run(*common, "--simulations", 9, "--set", "selection.uct.exploration=0.5", "--out", "own.parquet")
    [usual], [own] = load_trees("lats.parquet"), load_trees("own.parquet")
    assert usual.settings == preset("lats", information="single_observer", normalise="tree").as_json()
    changes = {"simulations": 9, "selection": {"uct": {"exploration": 0.5}}}
    assert own.settings == {**usual.settings, **changes}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preset", "agentq"], "no preset 'agentq'; did you mean 'agent_q'"),
        (["--preset", "agent_q"], "the model is the critic: pass --model"),
        (["--set", "selection.uct=3"], "selection.uct=3"),
        (["--set", "selection={uct: {}, puct: {}}"], "selection names uct, puct; expected one name"),
    ],
)
def test_a_preset_or_rule_that_cannot_be_searched_with_is_refused(options: list[str], words: str, here: Path) -> None:
    done = CliRunner().invoke(cli.app, ["search", "branchwise/TicTacToe-v0", "--out", "no.parquet", *options])
    assert done.exit_code == 2
    assert words in done.output
    assert not (here / "no.parquet").exists()


def test_a_search_goes_on_with_the_goals_that_it_began_with() -> None:
    run("search", "branchwise/TicTacToe-v0", "--goals", 1, "--simulations", 2, "--out", "more.parquet")
    given = ["search", "branchwise/TicTacToe-v0", "--goals", "2", "--simulations", "2", "--out", "more.parquet"]
    done = CliRunner().invoke(cli.app, given)
    assert done.exit_code == 2
    assert "has the trees of 1 goals where 2 are asked for" in done.stderr
