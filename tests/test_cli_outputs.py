"""What a command writes never replaces what it reads, nor a file or folder of another kind."""

import io
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from branchwise import cli
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.registry import environment_row, environments
from branchwise.search import resume
from branchwise.search.engine import Root
from branchwise.search.evaluation import RandomRollout
from branchwise.search.locks import only_writer
from branchwise.search.records import load_pairs
from branchwise.search.settings import SearchSettings
from branchwise.search.store import load_trees
from branchwise.training.trainer import OptimiserSettings, optimise

GAME = "TicTacToe-v0"


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, list(map(str, arguments)))
    return done.exit_code, " ".join(done.output.replace("│", " ").split())


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    code, said = run("search", GAME, "--goals", 2, "--simulations", 50, "--out", "t.parquet")
    assert code == 0, said
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("out", ["t.parquet", "./t.parquet", "link.parquet", "hard.parquet", "sub/../t.parquet"])
def test_pairs_never_replace_their_trees(trees: Path, out: str) -> None:
    before = trees.read_bytes()
    (trees.parent / "sub").mkdir()
    (trees.parent / "link.parquet").symlink_to(trees)
    (trees.parent / "hard.parquet").hardlink_to(trees)
    code, said = run("pairs", "t.parquet", "--out", out)
    assert code == 2
    assert "is read by this command" in said
    assert trees.read_bytes() == before


def test_pairs_never_remove_trees_that_have_the_name_of_anchors(trees: Path) -> None:
    trees.rename("x.anchors.parquet")
    code, said = run("pairs", "x.anchors.parquet", "--out", "x.parquet")
    assert code == 2
    assert "is read by this command" in said
    assert len(load_trees("x.anchors.parquet")) == 2


@pytest.mark.parametrize("name", ["notes.txt", "notes.anchors.txt"])
def test_pairs_never_replace_a_file_of_another_kind(trees: Path, name: str) -> None:
    Path(name).write_text("my notes\n")
    code, said = run("pairs", "t.parquet", "--out", "notes.txt", "--threshold", 0.01)
    assert code == 2
    assert "holds no pairs" in said
    assert Path(name).read_text() == "my notes\n"


@pytest.mark.parametrize("there", [True, False])
def test_an_output_that_is_a_link_is_written_where_it_leads(trees: Path, there: bool) -> None:
    Path("disk").mkdir()
    files = ("t.parquet", "p.jsonl")
    if there:
        assert run("pairs", "t.parquet", "--out", "disk/p.jsonl", "--threshold", 0.01)[0] == 0
        trees.rename("disk/t.parquet")
    trees.unlink(missing_ok=True)
    Path("b").symlink_to("disk/bench")
    for name in files:
        Path(name).symlink_to(f"disk/{name}")
    for command in (
        ("search", GAME, "--goals", 2, "--simulations", 60, "--out", "t.parquet"),
        ("pairs", "t.parquet", "--out", "p.jsonl", "--threshold", 0.02),
        ("bench", GAME, "--agent", "random", "--goals", 1, "--out", "b"),
    ):
        code, said = run(*command)
        assert code == 0, said
    assert all(Path(name).is_symlink() for name in (*files, "b"))
    assert [tree.counters["simulations"] for tree in load_trees("disk/t.parquet")] == [60, 60]
    assert load_pairs("disk/p.jsonl")
    assert Path("disk/p.anchors.jsonl").is_file()
    assert Path("disk/bench/results.json").is_file()


def test_a_tilde_is_the_home_folder_for_outputs_and_inputs(trees: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(trees.parent / "home"))
    for command in (
        ("search", GAME, "--goals", 1, "--simulations", 20, "--out=~/t.parquet"),
        ("pairs", "~/t.parquet", "--out=~/p.jsonl", "--threshold", 0.01),
        ("bench", GAME, "--agent", "random", "--goals", 1, "--out=~/bench"),
    ):
        code, said = run(*command)
        assert code == 0, said
    assert {"t.parquet", "p.jsonl", "bench"} <= {path.name for path in Path("home").iterdir()}
    assert not Path("~").exists()
    nowhere = str(Path("home/m").absolute())
    for command in (
        ("train", "~/p.jsonl", "--model=~/m", "--out=~/better"),
        ("search", GAME, "--model=~/m", "--out=~/u.parquet"),
        ("bench", GAME, "--agent=~/m"),
        ("loop", "smoke", "--set", "model=~/m", "--out=~/run"),
    ):
        assert nowhere in run(*command)[1]


def test_a_file_is_no_folder_to_write(trees: Path) -> None:
    for command in (("bench", GAME, "--agent", "random"), ("loop", "smoke")):
        code, said = run(*command, "--out", "t.parquet")
        assert code == 2
        assert "is a file, where a folder is expected" in said


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_an_encoding_lacks_costs_that_sign_alone(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commanded(*arguments: str, typed: bytes = b"") -> str:
        written = io.BytesIO()
        monkeypatch.setattr("sys.argv", ["branchwise", *arguments])
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), encoding=encoding, errors="strict"))
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding, errors="strict"))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        sys.stdout.flush()
        assert ended.value.code in (0, None)
        return written.getvalue().decode(encoding, "replace")  # typer writes UTF-8 where ASCII is asked for

    assert "2 episodes" in commanded("bench", GAME, "--agent", "random", "--goals", "2")
    out = f"{tmp_path}/\udcff.parquet"
    assert "20 simulations" in commanded("search", GAME, "--goals", "1", "--simulations", "20", "--out", out)
    assert "Left after 3 steps" in commanded("play", GAME, typed=b"1\n\xff\xfe\n\xe9\nq\n")


def test_pairs_replace_earlier_pairs(trees: Path) -> None:
    for _ in range(2):
        assert run("pairs", "t.parquet", "--out", "p.jsonl", "--threshold", 0.01)[0] == 0
    other = ("search", GAME, "--goals", 2, "--simulations", 50, "--out", "p.jsonl")
    assert run(*other)[0] == 2


@pytest.mark.parametrize("out", ["new/", "."])
def test_a_name_of_a_folder_is_no_file(trees: Path, out: str) -> None:
    for command in (("search", GAME), ("pairs", "t.parquet")):
        code, said = run(*command, "--out", out)
        assert code == 2
        assert "is a folder" in said
    assert not Path("new").exists()


@pytest.mark.parametrize(("out", "word"), [(".", "is the folder of"), ("other", "something else"), ("m", "is read by")])
def test_a_trained_model_replaces_neither_its_input_nor_other_files(trees: Path, out: str, word: str) -> None:
    assert run("pairs", "t.parquet", "--out", "p.jsonl", "--threshold", 0.01)[0] == 0
    Path("other").mkdir()
    Path("other/thesis.txt").write_text("years of work\n")
    Path("m").mkdir()
    Path("m/config.json").write_text("{}")
    code, said = run("train", "p.jsonl", "--model", "m", "--out", out)
    assert code == 2
    assert word in said
    assert Path("other/thesis.txt").exists()
    assert Path("m/config.json").exists()


@pytest.mark.parametrize("seed", [2**32, 2**64])
@pytest.mark.parametrize("method", ["sft", "step-dpo"])
def test_a_seed_that_no_training_takes_is_refused_before_anything_is_read(seed: int, method: str) -> None:
    code, said = run("train", "nowhere.jsonl", "--model", "./m", "--out", "o", "--method", method, "--seed", seed)
    assert code == 2
    assert f"seed={seed}; expected a whole number from 0 to 4294967295" in said
    with pytest.raises(ValueError, match=f"seed={seed}"):
        optimise(None, [], None, OptimiserSettings(), seed)  # type: ignore[arg-type]


def test_a_benchmark_s_folder_has_one_writer(trees: Path) -> None:
    command = ("bench", GAME, "--agent", "random", "--goals", 2, "--out", "b")
    Path("b").mkdir()
    with only_writer("b"):
        code, said = run(*command)
        assert code == 2
        assert f"b is being written to by the process {os.getpid()}" in said
        assert [path.name for path in Path("b").iterdir()] == [".lock"]
    for _ in range(2):
        assert run(*command)[0] == 0
    assert len(Path("b/episodes/random.jsonl").read_text().splitlines()) == 2
    assert not Path("b/.lock").exists()


def test_a_device_is_no_output(trees: Path) -> None:
    code, said = run("search", GAME, "--out", "/dev/full")
    assert code == 2
    assert "device" in said


@pytest.mark.parametrize(("model", "word"), [("nope", "the hub did not give it"), ("./nope", "not a folder")])
def test_a_run_whose_model_is_not_there_is_refused_before_its_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, word: str
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    code, said = run("loop", "smoke", "--model", model, "--out", "y")
    assert code == 2
    assert word in said
    assert not Path("y").exists()


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("search", GAME, "--out", "t.parquet"), "--goals"),
        (("search", GAME, "--out", "t.parquet"), "--simulations"),
        (("bench", GAME, "--agent", "random"), "--goals"),
        (("bench", GAME, "--agent", "mcts"), "--simulations"),
        (("pairs", "t.parquet", "--out", "p.jsonl"), "--min-visits"),
        (("loop", "smoke"), "--workers"),
    ],
)
def test_every_count_has_a_limit(command: tuple[str, ...], option: str) -> None:
    code, said = run(*command, option, 10**20)
    assert code == 2
    assert "less than or equal" in said


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "SearchSettings") for name in ("simulations", "proposals", "max_depth")),
        ("selection.softmax.top_nodes", "Softmax"),
        ("selection.gumbel.considered", "Gumbel"),
    ],
)
def test_a_setting_that_counts_has_a_limit_and_is_named_once(name: str, kind: str, tmp_path: Path) -> None:
    code, said = run("search", GAME, "--out", tmp_path / "t.parquet", "--set", f"{name}={10**20}")
    assert code == 2
    assert said.count(kind) == 1
    assert name.rpartition(".")[2] in said


@contextmanager
def no_room() -> Iterator[None]:
    """The system refuses to write more than a little to a file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_with_the_file_and_what_is_lost(trees: Path) -> None:
    before = trees.read_bytes()
    with no_room():
        code, said = run("search", GAME, "--goals", 2, "--simulations", 50, "--out", "new.parquet")
        again, more = run("search", GAME, "--goals", 2, "--simulations", 60, "--out", "t.parquet")
        pairs, third = run("pairs", "t.parquet", "--out", "p.jsonl", "--threshold", 0.01)
    assert (code, again, pairs) == (1, 1, 1)
    assert "new.parquet is not written" in said
    assert "What was searched is lost" in said
    assert "since its last save" in more
    assert "jsonl is not written" in third
    assert trees.read_bytes() == before


def test_a_search_outlives_a_save_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SECONDS_BETWEEN_SAVES", 0.0)
    game, left = TicTacToe(), [3]

    def progress(simulations: int, nodes: int, model_calls: int) -> None:
        left[0] -= 1
        size = 100 if left[0] > 0 else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    path, settings = tmp_path / "t.parquet", SearchSettings(simulations=20, solve=False)
    roots = [Root(game.reset(0), task={"seed": 0})]
    with pytest.warns(UserWarning, match="kept in memory"):
        resume.search_into(path, game, roots, None, RandomRollout(), settings, np.random.default_rng(0), progress)
    assert load_trees(path)[0].counters["simulations"] == 20


def test_no_folder_is_made_at_the_root_of_the_file_system(tmp_path: Path) -> None:
    code, said = run("search", GAME, "--out", "/branchwise-nowhere/t.parquet")
    assert code == 2
    assert "there is no folder /branchwise-nowhere" in said
    assert not Path("/branchwise-nowhere").exists()


def test_the_quickstarts_settings_for_trl_run_without_a_gpu() -> None:
    page = (Path(__file__).parents[1] / "docs" / "quickstart.md").read_text()
    settings = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    assert settings["use_cpu"] is True


def test_search_prints_why_trees_stopped_before_their_simulations(tmp_path: Path) -> None:
    code, said = run(
        "search",
        "KuhnPoker-v0",
        "--goals",
        2,
        "--simulations",
        16,
        "--out",
        tmp_path / "a.parquet",
        "--set",
        "max_nodes=2",
    )
    assert code == 0
    assert "stopped: 2 max_nodes" in said


def test_pairs_advise_what_would_help_and_name_the_anchors_file(trees: Path) -> None:
    assert run("search", GAME, "--goals", 1, "--simulations", 2, "--out", "small.parquet")[0] == 0
    nothing = run("pairs", "small.parquet", "--out", "p.jsonl")[1]
    assert "search with more simulations" in nothing
    assert "--threshold" not in nothing
    assert "lower --threshold" in run("pairs", "t.parquet", "--out", "p.jsonl", "--threshold", 50, "--no-anchors")[1]
    said = run("pairs", "t.parquet", "--out", "p.jsonl", "--threshold", 0.01)[1]
    rows = len(Path("p.anchors.jsonl").read_text().splitlines())
    assert f"p.anchors.jsonl: {rows} rows without a rejected side ({rows} anchor)" in said


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (("play", "WebShop-v0", "--opponent", "x"), "has one player, so it has no opponents"),
        (("play", GAME, "--opponent", "Perfect"), "did you mean 'perfect'?"),
        (("play", "WebShop-v0", "--option", "splt=test"), "did you mean split?"),
        (("play", "Hex-v0", "--option", "size=big"), "size='big' is no value of this option"),
        (("loop", "webshop"), "did you mean web_shop?"),
    ],
)
def test_what_was_meant_is_named_without_the_words_of_python(command: tuple[str, ...], word: str) -> None:
    code, said = run(*command)
    assert code == 2
    assert word in said
    assert "not supported between" not in said
    assert "with no options" not in said


def test_a_version_may_be_left_out_where_there_is_one_alone() -> None:
    for row in environments():
        assert environment_row(row.id.partition("/")[2].partition("-v")[0].lower()) is row


def test_a_game_of_open_spiel_is_named() -> None:
    pytest.importorskip("pyspiel")
    code, said = run("play", "Chess")
    assert code == 2
    assert "OpenSpiel-v0, with --option game=chess" in said
    assert "The game is kuhn_poker" in run("play", "OpenSpiel-v0")[1]
