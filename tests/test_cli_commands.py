"""The commands as a user runs them, in subprocesses: the way from search to bench, what they print, and user errors."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from branchwise import __version__, cli, simulator_for
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.play.transcript import observed
from branchwise.search.records import load_pairs
from branchwise.search.store import load_trees
from branchwise.training.loop.scratch import words_of
from branchwise.training.preference import PreferenceSettings
from branchwise.training.rows import sft_rows, step_key
from branchwise.training.supervised import SupervisedSettings, train_supervised

ENV = "branchwise/WebShop-v0"
GAME = "branchwise/TicTacToe-v0"
SMALL = {"observation_mode": "compact", "products": 100, "max_steps": 6}
SHOP = [word for key, value in SMALL.items() for word in ("--option", f"{key}={value}")]
COMMANDS = tuple(command.callback.__name__ for command in cli.app.registered_commands if command.callback)


def branchwise(
    *arguments: object, cwd: Path, stdin: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from branchwise.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "120"}
    return subprocess.run(
        program, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=timeout, env=environment
    )


def succeeded(*arguments: object, cwd: Path, stdin: str = "") -> str:
    done = branchwise(*arguments, cwd=cwd, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``tiny``, a model that searches for one common word and buys: its proposals end and its roll-outs
    earn a little."""
    folder = tmp_path_factory.mktemp("cli")
    simulator = simulator_for(ENV, **SMALL)
    tokenizer = make_tokenizer([*words_of(simulator, ()), "first", "want", "none", "kind", "what"])
    model = make_model(tokenizer, width=16, layers=1, heads=2)
    words = Counter(word for product in simulator.catalogue for word in product.name.lower().split())
    query = max(words, key=lambda word: (words[word], word))
    steps = []
    for goal in range(16):
        state = simulator.reset(0, {"goal": goal})
        for action in (f"search[{query}]", "click[#1]", "click[buy now]"):
            steps.append(((observed(simulator.observation(state)),), action))
            state = simulator.step(state, action)
    model.save_pretrained(folder / "untaught")
    tokenizer.save_pretrained(folder / "untaught")
    rows, _ = sft_rows(steps, tokenizer)
    train_supervised(model, rows, SupervisedSettings(learning_rate=1e-2, max_steps=120, batch_size=16), seed=0)
    model.save_pretrained(folder / "tiny")
    tokenizer.save_pretrained(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def searched(place: Path) -> str:
    return succeeded(
        *("search", ENV, "--model", "tiny", "--out", "trees.parquet", "--goals", 6, "--simulations", 12, *SHOP),
        *("--set", "proposals=2", "--set", "uniform_prior=0.5"),
        cwd=place,
    )


@pytest.fixture(scope="module")
def paired(place: Path, searched: str) -> str:
    return succeeded("pairs", "trees.parquet", "--out", "pairs.jsonl", "--threshold", 0.01, cwd=place)


def test_search_saves_one_tree_a_goal_and_says_what_it_did(place: Path, searched: str) -> None:
    trees = load_trees(place / "trees.parquet")
    assert [tree.task["options"] for tree in trees] == [{"goal": goal} for goal in range(6)]
    assert all(tree.counters["simulations"] <= 12 for tree in trees)
    assert all(tree.settings["proposals"] == 2 for tree in trees)
    calls = sum(tree.counters["model_calls"] for tree in trees)
    assert f"6 trees, {sum(map(len, trees))} nodes" in searched
    assert f"{calls} model calls" in searched


def test_a_saved_tree_says_with_which_options_to_replay_it(place: Path, searched: str) -> None:
    tree = load_trees(place / "trees.parquet")[0]
    assert tree.task["env_options"] == {**SMALL, "split": "train"}
    load_trees(place / "trees.parquet", simulator_for(tree.task["env_id"], **tree.task["env_options"]))


def test_pairs_are_counted_by_kind_and_so_is_what_was_left_out(place: Path, paired: str) -> None:
    pairs = load_pairs(place / "pairs.jsonl")
    siblings = sum(pair.kind == "sibling" for pair in pairs)
    assert siblings > 0
    assert f"pairs.jsonl: {siblings} rows ({siblings} sibling)" in paired
    assert "left out: " in paired


def test_anchors_are_counted_beside_the_pairs_and_written_beside_them(place: Path) -> None:
    game = ("--simulations", 300, "--set", "selection=uct", "--out", "game.parquet")
    succeeded("search", "TicTacToe", "--goals", 1, *game, cwd=place)
    said = succeeded("pairs", "game.parquet", "--out", "game.jsonl", "--min-visits", 2, cwd=place)
    anchors = [pair for pair in load_pairs(place / "game.anchors.jsonl") if not pair.rejected]
    assert len(anchors) > 10
    assert f"game.anchors.jsonl: {len(anchors)} rows without a rejected side ({len(anchors)} anchor)" in said


def test_pairs_without_anchors_all_have_a_rejected_side(place: Path, searched: str) -> None:
    succeeded(*("pairs", "trees.parquet", "--out", "plain.jsonl", "--threshold", 0.01, "--no-anchors"), cwd=place)
    assert all(pair.rejected for pair in load_pairs(place / "plain.jsonl"))


@pytest.mark.slow
def test_the_same_search_twice_gives_the_same_file(place: Path, searched: str) -> None:
    again = ["search", ENV, "--model", "tiny", "--out", "again.parquet", "--goals", 6, "--simulations", 12, *SHOP]
    succeeded(*again, "--set", "proposals=2", "--set", "uniform_prior=0.5", cwd=place)
    assert (place / "again.parquet").read_bytes() == (place / "trees.parquet").read_bytes()


@pytest.mark.slow
def test_step_dpo_then_bench_on_the_same_goals(place: Path, paired: str) -> None:
    said = succeeded("train", "pairs.jsonl", "--model", "tiny", "--out", "dpo", "--set", "batch_size=4", cwd=place)
    assert "step-DPO on" in said
    assert weights(place / "dpo") != weights(place / "tiny")
    agents = ["--agent", "random", "--agent", "rule-based", "--agent", "dpo"]
    rows = json.loads(succeeded("bench", ENV, *agents, "--goals", 5, "--simulations", 2, "--json", *SHOP, cwd=place))
    assert [row["agent"] for row in rows] == ["random", "rule_based", "dpo", "dpo+mcts_oracle"]
    assert {(row["env"], row["split"], row["episodes"], row["seed"]) for row in rows} == {(ENV, "test", 5, 0)}


@pytest.mark.slow
def test_sft_trains_on_the_chosen_sides(place: Path, paired: str) -> None:
    done = branchwise("train", "pairs.jsonl", "--model", "tiny", "--out", "sft", "--method", "sft", cwd=place)
    assert done.returncode == 0, done.stderr
    pairs = load_pairs(place / "pairs.jsonl")
    chosen = {step_key((pair.prompt, pair.chosen[0].text), "last_observation") for pair in pairs}
    assert f"SFT on {len(chosen)} rows" in done.stdout
    assert weights(place / "sft") != weights(place / "tiny")


def test_bench_prints_a_table_that_names_goals_and_marks_no_oracle_where_there_is_none(tmp_path: Path) -> None:
    table = succeeded("bench", ENV, "--agent", "random", "--agent", "rule-based", "--goals", 4, *SHOP, cwd=tmp_path)
    assert "Random" in table
    assert "Rule-based" in table
    assert f"4 goals of {ENV}, split test, seed 0" in table
    assert "*" not in table


def test_bench_says_where_every_action_was_invalid(place: Path) -> None:
    """As of a model that is shown other pages than it learned to read; this one has learned none."""
    done = branchwise("bench", ENV, "--agent", "untaught", "--agent", "random", "--goals", 2, cwd=place)
    assert done.returncode == 0, done.stderr
    assert (
        "note: every action of untaught was invalid. Is the model one for this environment and its --option?"
        in done.stderr
    )
    assert "random was invalid" not in done.stderr


@pytest.mark.parametrize(("method", "kind"), [("DPO", PreferenceSettings), ("SFT", SupervisedSettings)])
def test_train_s_help_gives_the_defaults(method: str, kind: type, tmp_path: Path) -> None:
    said = " ".join(succeeded("train", "--help", cwd=tmp_path).replace("│", " ").split())
    settings = kind()
    assert f"{settings.learning_rate:g}".replace("0.0003", "3e-4").replace("0.002", "2e-3") + f" ({method})" in said
    assert f"Passes over the rows; default {settings.epochs:g}." in said
    if kind is PreferenceSettings:
        assert f"pull to the reference; default {settings.beta:g}." in said
        assert f"chosen sides' likelihood; default {settings.sft_weight:g}." in said


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


# ---- help, version, environments, play ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.app([command, "--help"])
    assert left.value.code == 0
    assert f"Example: branchwise {command}" in " ".join(capsys.readouterr().out.split())


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom branchwise.cli import app\ntry:\n    app(['train', '--help'])\nexcept SystemExit:\n"
        "    print([name for name in ('torch', 'transformers', 'pyarrow', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_version_is_the_package_s(tmp_path: Path) -> None:
    assert succeeded("--version", cwd=tmp_path) == f"branchwise {__version__}\n"


def test_envs_as_json_has_options_with_defaults(tmp_path: Path) -> None:
    listed = json.loads(succeeded("envs", "--json", cwd=tmp_path))
    shop = next(row for row in listed if row["id"] == ENV)
    assert shop["options"]["max_steps"] == 15
    assert shop["splits"] == ["train", "validation", "test"]
    assert ENV in succeeded("envs", cwd=tmp_path)


def test_play_takes_a_goal_and_lines(tmp_path: Path) -> None:
    said = succeeded("play", ENV, "--goal", 2, "--option", "products=100", cwd=tmp_path, stdin="s shirt\nq\n")
    assert "→ search[shirt]" in said
    assert said.rstrip().endswith("Left after 1 step.")


# ---- errors ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Path:
    """Files and folders that cannot be used."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "empty.jsonl").touch()
    (folder / "garbage.jsonl").write_text("{}\n")
    (folder / "garbage.parquet").write_text("not parquet")
    (folder / "trees.parquet").write_bytes(b"PAR1\xb5\n")
    (folder / "headless").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / "headless" / name).write_bytes((place / "tiny" / name).read_bytes())
    return folder


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("play", "branchwise/WebShip-v0"), "did you mean branchwise/WebShop-v0"),
        (("play", ENV, "--option", "product=5"), "no option 'product'"),
        (("play", ENV, "--option", "products"), "expected key=value"),
        (("play", ENV, "--goal", "999999"), "whose goals are 0 to"),
        (("play", ENV, "--option", "products=abc"), "products='abc'"),
        (("play", GAME, "--goal", "3"), "has no goals"),
        (("play", GAME, "--option", "opponents=5"), "opponents=5: expected 'random' or 'perfect'"),
        (("search", "nowhere", "--model", "headless", "--out", "t.parquet"), "headless"),
        (("search", ENV, "--model", "headless", "--out", "t.parquet"), "no tokenizer"),
        (("search", ENV, "--model", "./nothing", "--out", "t.parquet"), "not a folder with a model"),
        (("search", ENV, "--model", "headless", "--out", "t.parquet", "--set", "simulation=3"), "'simulations'"),
        (("search", GAME, "--out", "t.parquet", "--option", "player=0"), "leave out player"),
        (("search", GAME, "--out", "t.parquet", "--history", "all_turns"), "--history: there is no --model"),
        (("pairs", "missing.parquet", "--out", "p.jsonl"), "missing.parquet: no such file"),
        (("pairs", "garbage.parquet", "--out", "p.jsonl"), "garbage.parquet"),
        (("train", "missing.jsonl", "--model", "headless", "--out", "m"), "missing.jsonl: no such file"),
        (("train", "empty.jsonl", "--model", "headless", "--out", "m"), "empty.jsonl: the file is empty"),
        (("train", "garbage.jsonl", "--model", "headless", "--out", "m"), "garbage.jsonl, line 1: no field"),
        (("train", "empty.jsonl", "--model", "m", "--out", "m", "--method", "sft", "--beta", "1"), "no beta"),
        (("train", "e.jsonl", "--model", "m", "--out", "m", "--method", "sft", "--reference", "model"), "no reference"),
        (("train", "empty.jsonl", "--model", "m", "--out", "m", "--set", "lr=1"), "unknown setting lr"),
        (("train", "empty.jsonl", "--model", "m", "--out", "m", "--epochs", "0"), "epochs must be above 0"),
        (("bench", "nowhere", "--agent", "random"), "No environment 'nowhere'"),
        (("bench", ENV, "--agent", "random", "--goals", "1000000"), "has 4000 goals; 1000000 are asked for"),
        (("bench", ENV, "--agent", "random", "--split", "exam"), "'exam'"),
        (("bench", ENV, "--agent", "random", "--option", "split=train"), "--split"),
        (("bench", ENV, "--agent", "headless", "--critic", "headless"), "--critic: it values the leaves of a search"),
        (
            ("bench", ENV, "--agent", "random", "--goals", "2", "--simulations", "5"),
            "--simulations: none of the agents",
        ),
        (
            ("bench", ENV, "--agent", "random", "--goals", "2", "--history", "all_turns"),
            "--history: none of the agents",
        ),
        (
            ("loop", "nothing", "--out", "run"),
            "or one of ours: bargaining, connect_four, deal_or_no_deal, leduc_poker, math_tool,",
        ),
        (
            ("loop", "smoke", "--set", "recipes=[dpo]", "--set", "search_recipe=dpo"),
            "or one of ours: agent_q, gigpo, ipr, mcts_dpo, ",
        ),
        (("train", "trees.parquet", "--model", "tiny", "--out", "new"), "a parquet file (`branchwise pairs` makes"),
        (("loop", "rft", "--out", "run"), "'rft' is a recipe"),
        (("loop", "smoke", "--out", "run", "--set", "env=branchwise/WebShip-v0"), "did you mean branchwise/WebShop-v0"),
        (("loop", "smoke", "--out", "run", "--set", "history=long"), "history='long'"),
        (("loop", "smoke", "--out", "run", "--set", "seed=-1"), "seed=-1"),
        (("loop", "smoke", "--out", "run", "--set", "temperature=-1"), "temperature=-1"),
        (("loop", "smoke", "--out", "run", "--set", "base.width=0"), "width=0"),
        (
            ("loop", "smoke", "--out", "run", "--set", "base.demonstrators={random: -1}"),
            "random=-1; expected a positive share",
        ),
        (("loop", "smoke", "--out", "run", "--set", "round=3"), "did you mean 'rounds'"),
        (("loop", "smoke", "--out", "run", "--set", "rounds=many"), "rounds='many'"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    arguments: tuple[str, ...],
    word: str,
    broken: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: a subprocess each would take a minute together."""
    monkeypatch.chdir(broken)
    with pytest.raises(SystemExit) as left:
        cli.app(list(arguments))
    said = capsys.readouterr()
    assert left.value.code == 2
    assert word in said.err
    assert said.err.count("\n") == 1
    assert said.err.startswith("branchwise: ")
    assert said.out == ""
    assert not (broken / "run").exists()


def test_an_error_in_a_subprocess_shows_no_traceback(broken: Path) -> None:
    done = branchwise("train", "empty.jsonl", "--model", "headless", "--out", "m", cwd=broken)
    assert done.returncode == 2
    assert done.stderr.startswith("branchwise: empty.jsonl: the file is empty")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command", [("envs",), ("envs", "--json"), ("bench", GAME, "--agent", "random", "--goals", "9")]
)
def test_a_reader_that_goes_away_is_no_error(command: tuple[str, ...], tmp_path: Path) -> None:
    """``branchwise envs | head -1``; and ``>&-``, after which Python has no standard output at all."""
    program = [sys.executable, "-c", "from branchwise.cli import main; main()", *command]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(program, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == 1
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *program], cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert "Traceback" not in closed.stderr
    assert closed.returncode in (0, 1)


def test_playing_without_a_standard_input_ends_politely(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from branchwise.cli import main; main()", "play", GAME]
    shell = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *program]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.rstrip().endswith("Left before the end.")
    assert done.returncode == 0


def test_wrong_usage_is_code_2(tmp_path: Path) -> None:
    assert branchwise("pairs", cwd=tmp_path).returncode == 2
    assert branchwise("train", "p", "--model", "m", "--out", "o", "--method", "ppo", cwd=tmp_path).returncode == 2


def test_a_bug_keeps_its_traceback() -> None:
    assert cli.exit_code(KeyError("name")) is None
    assert cli.exit_code(ZeroDivisionError()) is None
    assert cli.exit_code(OSError(28, "No space left on device")) == 1
    assert cli.exit_code(ValueError("bad")) == 2


def test_ctrl_c_is_code_130_and_one_line(place: Path) -> None:
    program = [sys.executable, "-c", "from branchwise.cli import main; main()"]
    arguments = ["bench", ENV, "--agent", "random", "--goals", "50000", "--option", "products=20000"]
    running = subprocess.Popen([*program, *arguments], cwd=place, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert running.stderr.readline().startswith("random: started") or running.poll() is None
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.splitlines()[-1] == f"branchwise: {cli.STOPPED}"


def test_options_are_read_as_yaml() -> None:
    assert cli.parsed_options(["products=100", "split=test", "catalogue=null", "attributes=[1, 2]"]) == {
        "products": 100,
        "split": "test",
        "catalogue": None,
        "attributes": [1, 2],
    }
