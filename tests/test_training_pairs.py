"""From a pair file to a trained model: pairs that others wrote, pairs without a logged reference, and each row once."""

import copy
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_search_extraction import built
from test_search_store import grown
from transformers import GPT2Config, GPT2LMHeadModel

from branchwise import cli
from branchwise.agents.language_model import LanguageModel
from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.games.tic_tac_toe import TicTacToe
from branchwise.envs.play.transcript import Turn, acted, observed
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import RandomRollout
from branchwise.search.extraction import PreferencePair, best_paths, sibling_pairs
from branchwise.search.files import check_writable
from branchwise.search.pooling import pooled
from branchwise.search.records import load_pairs, save_pairs
from branchwise.search.store import save_trees
from branchwise.training.loop.extract import extract
from branchwise.training.loop.extractors import SiblingPairs
from branchwise.training.loop.recipe import load_recipe
from branchwise.training.preference import (
    PreferenceSettings,
    has_logged,
    logged_references,
    model_references,
    train_preference_rows,
    train_step_dpo,
)
from branchwise.training.rows import preference_rows, sft_rows, without_repeats
from branchwise.training.supervised import SupervisedSettings, train_supervised

PAIR = PreferencePair((observed("goal red shirt"),), (acted("click[one]"),), (acted("click[two]"),), kind="sibling")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = make_tokenizer(["goal", "red", "shirt", "one", "two"])
    network = make_model(tokenizer, width=16, layers=1, heads=2)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run(*arguments: Any, code: int = 0) -> None:
    with pytest.raises(SystemExit) as left:
        cli.app([str(argument) for argument in arguments])
    assert left.value.code == code


def trained(pairs: list[PreferencePair], model: Path, **options: Any) -> dict[str, torch.Tensor]:
    policy = LanguageModel.load(model, history="all_turns")
    settings = PreferenceSettings(learning_rate=1e-2, epochs=2, batch_size=2)
    train_step_dpo(policy, pairs, settings, **options)
    return policy.model.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# ---- the reference ----------------------------------------------------------------------------------------------


def test_without_logged_log_probabilities_the_model_as_it_starts_is_the_reference(model: Path) -> None:
    """And it is measured before training: the same as logging it by hand."""
    policy = LanguageModel.load(model, history="all_turns")
    [scores] = policy.score([PAIR.prompt], [["click[one]", "click[two]"]])
    logged = replace(PAIR, ref_chosen_logp=float(scores[0]), ref_rejected_logp=float(scores[1]))
    by_itself = trained([PAIR, PAIR], model)
    assert same(by_itself, trained([PAIR, PAIR], model, logged=False))
    by_hand = trained([logged, logged], model)
    for name in by_hand:
        torch.testing.assert_close(by_itself[name], by_hand[name], atol=1e-4, rtol=1e-4)


def test_pairs_of_which_only_some_are_logged_all_take_the_model_as_reference(model: Path) -> None:
    logged = replace(PAIR, ref_chosen_logp=-1.0, ref_rejected_logp=-2.0)
    anchor = replace(PAIR, rejected=())
    assert has_logged([logged, anchor])
    assert not has_logged([logged, replace(logged, ref_rejected_logp=None)])
    assert same(trained([logged, PAIR], model), trained([logged, PAIR], model, logged=False))


def test_a_search_without_a_model_feeds_training_by_the_commands(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    game = TicTacToe()
    roots = [Root(game.reset(0), (observed(game.observation(game.reset(0))),), {"seed": 0})]
    settings = SearchSettings(simulations=60, solve=False)
    save_trees(tmp_path / "t.parquet", search(game, roots, None, RandomRollout(), settings, np.random.default_rng(0)))
    run("pairs", tmp_path / "t.parquet", "--out", tmp_path / "p.jsonl", "--min-visits", 3)
    pairs = load_pairs(tmp_path / "p.jsonl")
    assert pairs
    assert not any('_logged": true' in line for line in (tmp_path / "p.jsonl").read_text().splitlines())
    out = tmp_path / "out"
    run("train", tmp_path / "p.jsonl", "--model", model, "--out", out, "--epochs", 0.1, "--set", "batch_size=8")
    said = capsys.readouterr().err
    assert "note: no log-probabilities were logged with these pairs; the model as it starts is the reference" in said
    assert (out / "model.safetensors").is_file()
    run("train", tmp_path / "p.jsonl", "--model", model, "--out", out, "--reference", "logged", code=2)
    assert "--reference model" in capsys.readouterr().err


# ---- the files of others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
def test_pairs_in_trl_s_own_format_are_trained(plain: bool, model: Path, tmp_path: Path, capsys: Any) -> None:
    def message(role: str, text: str) -> Any:
        return text if plain else [{"role": role, "content": text}]

    rows = [
        {"prompt": message("user", f"goal {i}"), "chosen": message("assistant", "one"),
         "rejected": message("assistant", "two")} for i in range(4)
    ]  # fmt: skip
    path = tmp_path / "preferences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("train", path, "--model", model, "--out", tmp_path / "out", "--learning-rate", 1e-2)
    assert "step-DPO on 4 rows" in capsys.readouterr().out
    after, before = LanguageModel.load(tmp_path / "out"), LanguageModel.load(model)
    goal = [(observed("goal 0"),)]
    odds = [np.subtract(*policy.score(goal, [["one", "two"]])[0]) for policy in (before, after)]
    assert odds[0] < odds[1]


def test_a_prompt_that_others_wrote_is_read_whole(model: Path, tmp_path: Path, capsys: Any) -> None:
    """A model saved without a history policy reads our pages by the last observation, and a conversation whole."""
    said = [("user", "goal red"), ("assistant", "one"), ("user", "goal shirt")]
    prompt = [{"role": role, "content": text} for role, text in said]
    path = tmp_path / "preferences.jsonl"
    path.write_text(json.dumps({"prompt": prompt, "chosen": "one", "rejected": "two"}) + "\n")
    run("train", path, "--model", model, "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "branchwise.json").read_text())["history"] == "all_turns"
    run("train", path, "--model", model, "--out", tmp_path / "o", "--history", "last_observation")
    assert json.loads((tmp_path / "o" / "branchwise.json").read_text())["history"] == "last_observation"


def test_anchors_are_read_from_their_file_beside_the_pairs(model: Path, tmp_path: Path, capsys: Any) -> None:
    save_pairs(tmp_path / "pairs.jsonl", [PAIR, replace(PAIR, prompt=(observed("goal"),), rejected=())])
    run("train", tmp_path / "pairs.jsonl", "--model", model, "--out", tmp_path / "out")
    assert "step-DPO on 2 rows" in capsys.readouterr().out
    run("train", tmp_path / "pairs.jsonl", "--model", model, "--out", tmp_path / "out", "--method", "sft")
    assert "SFT on 2 rows" in capsys.readouterr().out


# ---- each row once ----------------------------------------------------------------------------------------------


def test_rows_are_told_apart_by_what_is_trained() -> None:
    """A step that a tree logged with its tokens and one that a roll-out took are one row."""
    logged = (acted("click[one]", token_ids=(1, 2), logps=(-0.5, -0.1)),)
    page = observed("page")
    once = [
        replace(PAIR, chosen=logged),
        PAIR,
        replace(PAIR, prompt=(Turn("user", "goal red shirt"),), chosen_q=0.5, tree=3, node=4, ref_chosen_logp=-0.6),
    ]
    assert without_repeats(once) == once[:1]
    earlier = replace(PAIR, prompt=(page, *logged, *PAIR.prompt))
    assert without_repeats([PAIR, earlier], "last_observation") == [PAIR]
    different = [
        PAIR,
        earlier,
        replace(PAIR, prompt=(page,)),
        replace(PAIR, chosen=(acted("click[three]"),)),
        replace(PAIR, rejected=()),
        replace(PAIR, chosen=PAIR.rejected, rejected=PAIR.chosen),
        replace(PAIR, chosen=(*PAIR.chosen, page, acted("buy"))),
        replace(PAIR, prompt=(Turn("system", "Be brief."), *PAIR.prompt)),
    ]
    assert without_repeats(different) == different


def test_supervised_training_learns_a_step_once_as_it_is_shown(model: Path, tmp_path: Path, capsys: Any) -> None:
    earlier = replace(PAIR, prompt=(observed("page"), acted("look"), *PAIR.prompt), rejected=())
    save_pairs(tmp_path / "pairs.jsonl", [PAIR, copy.copy(PAIR), earlier])
    run("train", tmp_path / "pairs.jsonl", "--model", model, "--out", tmp_path / "out", "--method", "sft")
    assert "SFT on 1 rows" in capsys.readouterr().out


def test_sibling_pairs_of_one_tree_have_no_repeats() -> None:
    game = TicTacToe()
    roots = [Root(game.reset(0), (observed(game.observation(game.reset(0))),), {"seed": 0})]
    settings = SearchSettings(simulations=60, solve=False)
    [tree] = search(game, roots, None, RandomRollout(), settings, np.random.default_rng(0))
    pairs = sibling_pairs(tree)[0]
    assert len(pairs) > 10
    assert without_repeats(pairs) == pairs


@pytest.mark.parametrize("recipe", ["tree_sft", "step_dpo"])
def test_a_stage_of_the_loop_takes_a_step_of_a_tree_and_of_a_roll_out_once(recipe: str, tmp_path: Path) -> None:
    """The tree logged the tokens of its steps, and the roll-outs' file keeps none."""
    trees = grown(12)
    steps = [step for tree in trees for step in best_paths(tree)[0]]
    assert any(turn.token_ids for step in steps for turn in step.chosen)
    save_trees(tmp_path / "trees.parquet", trees)
    save_pairs(tmp_path / "winners.jsonl", steps)
    assert load_pairs(tmp_path / "winners.jsonl") != steps
    (tmp_path / "figures.json").write_text(json.dumps({"round": 1, "history": "all_turns", "by": "success"}))
    rows, _ = extract(load_recipe(recipe).extract, tmp_path, np.random.default_rng(0))
    assert sum(not row.rejected for row in rows) == len(steps)


def test_pairs_may_ask_the_loss_for_more_where_values_differ_more() -> None:
    tree = built({"n": 10, "children": {"a": {"n": 6, "q": 0.5}, "b": {"n": 3, "q": 0.25}, "c": {"n": 1, "q": -1.0}}})
    usual, _ = SiblingPairs().from_tree(tree, "success", 1)
    assert {(pair.margin, pair.weight) for pair in usual} == {(0.0, 1.0)}
    pairs, _ = SiblingPairs(margin=0.5, weight="difference").from_tree(tree, "success", 1)
    assert [(pair.rejected[0].text, pair.margin, pair.weight) for pair in pairs] == [
        ("c", 0.75, 1.5),
        ("b", 0.125, 0.25),
    ]
    of_games, _ = SiblingPairs(margin=2.0).from_positions(pooled([tree], lambda seen: seen[-1].text)[0])
    assert [(pair.rejected[0].text, pair.margin, pair.weight) for pair in of_games] == [
        ("c", 3.0, 1.0),
        ("b", 0.5, 1.0),
    ]


# ---- what is refused, and what is counted -----------------------------------------------------------------------


def test_steps_that_are_learned_once_are_counted(model: Path, tmp_path: Path, capsys: Any) -> None:
    save_pairs(tmp_path / "pairs.jsonl", [PAIR, replace(PAIR, rejected=(acted("click[three]"),)), PAIR])
    run("train", tmp_path / "pairs.jsonl", "--model", model, "--out", tmp_path / "out", "--method", "sft")
    assert "SFT on 1 rows, 2 repeated steps" in capsys.readouterr().out


def test_anchors_alone_are_no_preference(model: Path, tmp_path: Path, capsys: Any) -> None:
    save_pairs(tmp_path / "pairs.jsonl", [PAIR, replace(PAIR, rejected=())])
    anchors = tmp_path / "pairs.anchors.jsonl"
    run("train", anchors, "--model", model, "--out", tmp_path / "out", code=2)
    assert "none of the 1 rows has a rejected side" in (said := " ".join(capsys.readouterr().err.split()))
    assert "--method sft" in said
    assert not (tmp_path / "out").exists()
    run("train", anchors, "--model", model, "--out", tmp_path / "out", "--method", "sft")


@pytest.mark.parametrize("method", ["step-dpo", "sft"])
def test_a_model_of_learned_positions_trains_on_what_fits_it(method: str, tmp_path: Path, capsys: Any) -> None:
    """GPT-2's positions are a table, and the 65th of 64 is an error of torch."""
    tokenizer = make_tokenizer(["goal", "one", "two"])
    sizes = {"n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 3, "eos_token_id": 3}
    network = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes))
    LanguageModel(network, tokenizer, max_new_tokens=8).save(tmp_path / "gpt2")
    rows = [
        {"prompt": "goal " * 50, "chosen": "one two " * 20, "rejected": "two"},
        {"prompt": "goal", "chosen": "one " * 70, "rejected": "two"},
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ("--model", tmp_path / "gpt2", "--method", method, "--out")
    run("train", tmp_path / "p.jsonl", *more, tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "on 1 rows, 1 longer than the model's 64 positions (first: " in said
    assert "truncated prompts" in said
    (tmp_path / "p.jsonl").write_text(json.dumps(rows[1]) + "\n")
    run("train", tmp_path / "p.jsonl", *more, tmp_path / "other", code=2)
    assert "longer than the model's 64 positions" in " ".join(capsys.readouterr().err.split())


def test_rows_that_were_not_fitted_to_the_model_are_named() -> None:
    tokenizer = make_tokenizer(["goal", "one"])
    network = make_model(tokenizer, width=16, layers=1, heads=2, max_tokens=16)
    pair = replace(PAIR, prompt=(observed("goal " * 40),), ref_chosen_logp=-1.0, ref_rejected_logp=-1.0)
    rows, _ = preference_rows([pair], tokenizer)
    with pytest.raises(ValueError, match=r"pair 0 has a side of \d+ tokens, and the model 16 positions"):
        train_preference_rows(network, rows, PreferenceSettings(), "logged", 0)
    steps, _ = sft_rows([(pair.prompt, "one")], tokenizer)
    with pytest.raises(ValueError, match=r"row 0: \d+ tokens, and the model has 16 positions"):
        train_supervised(network, steps, SupervisedSettings(), seed=0)


def test_a_place_that_cannot_be_written_is_found_before_the_training(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deep")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"^/proc/model cannot be written: .* in /proc; name another --out"):
        check_writable("/proc/model")


def test_a_search_s_logged_references_are_those_of_the_rows_that_train_on_them() -> None:
    """Whatever tokens were sampled: an untrained model samples words in pieces."""
    tokenizer = make_tokenizer(["goal"])
    policy = LanguageModel(make_model(tokenizer, width=16, layers=1, heads=2), tokenizer, max_new_tokens=20)
    prompt = (observed("goal"),)
    [proposals] = policy.propose([prompt], 400, [np.random.default_rng(0)])
    assert policy.counts["rescored_proposals"] > 0
    pairs = [
        PreferencePair(prompt, (acted(one.text),), (acted(other.text),), ref_chosen_logp=one.logp,
                       ref_rejected_logp=other.logp) for one, other in pairwise(proposals)
    ]  # fmt: skip
    rows, _ = preference_rows(pairs, tokenizer)
    np.testing.assert_allclose(logged_references(rows), model_references(policy.model, rows), atol=1e-3)
