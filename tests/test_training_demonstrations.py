"""A base that is made of a file of demonstrations: ours or others', and what is wrong with a file said in a line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_functions import Silent

from branchwise.agents.language_model import LanguageModel
from branchwise.envs.play.episode import Episode
from branchwise.envs.play.players import scripted_agents
from branchwise.envs.play.playing import run_episodes
from branchwise.envs.play.task import TaskSource
from branchwise.envs.play.transcript import acted, messages, observed
from branchwise.search import records
from branchwise.search.records import load_demonstrations, save_episodes
from branchwise.training.loop.config import BaseSettings, RunConfig, load_config
from branchwise.training.loop.graph import stages_of
from branchwise.training.loop.recipe import recipes_named
from branchwise.training.loop.run import run_loop
from branchwise.training.settings import SettingsError
from branchwise.training.stages import do_stage, figures
from branchwise.training.supervised import SupervisedSettings

EPISODE = Episode({"seed": 0}, (observed("Which?"), acted("left"), observed("Over.")), (1.0,), True, 1)
TALK = {"messages": [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "left"}], "source": "me"}


def played(name: str, count: int) -> list[Episode]:
    source = TaskSource("TicTacToe", {"opponents": "random"})
    game = source.simulator("train")
    return run_episodes(game, source.tasks(game, "train", count), scripted_agents("TicTacToe")[name](), 0)


def run_with(path: Path, **base: Any) -> RunConfig:
    return RunConfig(
        "TicTacToe",
        validation_goals=20,
        base=BaseSettings(
            width=16,
            layers=1,
            heads=2,
            cloning=SupervisedSettings(batch_size=8, learning_rate=3e-3, epochs=3.0),
            demonstrations_file=str(path),
            **base,
        ),
        recipes=recipes_named("rft"),
        search_recipe="",
    )


def test_a_base_is_cloned_from_episodes_and_from_the_same_conversations_alike(tmp_path: Path) -> None:
    episodes = played("perfect", 30)
    ours, others = tmp_path / "episodes.jsonl", tmp_path / "talks.jsonl"
    save_episodes(ours, episodes)
    others.write_text("".join(json.dumps({"messages": messages(e.transcript)}) + "\n" for e in episodes))
    weights = []
    for path in (ours, others):
        run = tmp_path / path.stem
        do_stage(stages_of(run_with(path))[0], run, lambda *_: None)
        assert figures(run, "base")["demonstrations"] == 30
        weights.append((run / "base" / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    model = LanguageModel.load(tmp_path / "talks" / "base" / "model")
    prompts = [e.transcript[:1] for e in episodes]
    moves = [e.transcript[1].text for e in episodes]
    [first, *_] = model.score(prompts[:1], [[str(square) for square in range(1, 10)]])
    assert str(1 + int(first.argmax())) in moves


def test_lines_of_both_kinds_are_mixed_and_those_without_an_action_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "shown.jsonl"
    save_episodes(path, [EPISODE, replace(EPISODE, transcript=(observed("Which?"),), rewards=(), steps=0)])
    system = {"role": "system", "content": "Be brief."}
    with path.open("a") as file:
        file.write(json.dumps({"messages": [system, *TALK["messages"]]}) + "\n\n" + json.dumps(TALK))
    first, second, third = load_demonstrations(path)
    assert first == EPISODE.transcript
    assert [turn.role for turn in second] == ["system", "user", "assistant"]
    assert messages(third) == TALK["messages"]
    assert [turn.is_agent for turn in third] == [False, True]


def test_texts_that_utf_8_cannot_hold_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a\\ud800"}, {"role": "assistant", "content": "b"}]}\n')
    assert load_demonstrations(path)[0][0].text == "a�"


def said(*turns: Any) -> bytes:
    return json.dumps({"messages": list(turns)}).encode()


USER, AGENT = TALK["messages"]
WRONG = {
    "nothing": (b"", "is empty"),
    "blank lines": (b"\n \n", "is empty"),
    "no agent": (said(USER), "nobody acts in any of its 1 lines"),
    "no turns": (said(), "nobody acts in any of its 1 lines"),
    "the agent first": (said(AGENT, USER), "line 1: the agent acts before anything was shown"),
    "a list": (b"[1]", "line 1: list where an object is expected"),
    "null": (b"null", "line 1: NoneType where an object is expected"),
    "neither": (b'{"prompt": []}', "line 1: no field 'messages'"),
    "both": (b'{"messages": [], "transcript": []}', "line 1: a row with 'transcript' and 'messages'"),
    "messages of text": (b'{"messages": "hello"}', "line 1: messages='hello'; expected a list of messages"),
    "messages of texts": (b'{"messages": ["hello"]}', "line 1: "),
    "no content": (b'{"messages": [{"role": "user"}]}', "line 1: no field 'content'"),
    "content of parts": (said({"role": "user", "content": [{"type": "text", "text": "a"}]}), "line 1: a message with"),
    "content of a number": (said(USER, {"role": "assistant", "content": 4}), "role 'assistant' and content 4"),
    "another role": (said({"role": "tool", "content": "4"}), "line 1: a message with role 'tool'"),
    "a role of a list": (said({"role": [], "content": "4"}), "line 1: "),
    "a key twice": (b'{"messages": [], ' + said(USER, AGENT)[1:] + b"\n", "line 1: .*'messages' twice in one object"),
    "a key twice inside": (  # which Python would pass over
        b'{"messages": [{"role": "user", "role": "user"}]}\n', "line 1: .*'role' twice in one object",
    ),
    "the second line": (said(USER, AGENT) + b"\n{}\n", "line 2: no field 'messages'"),
    "not UTF-8": (b'{"messages": "\xff"}\n', "line 1: not UTF-8"),
    "brackets": (b"[" * 200_000 + b"\n", "line 1: not JSON that can be read .brackets nested too deeply"),
    "endless digits": (b"9" * 5000 + b"\n", "line 1: not JSON"),
    "cut off": (said(USER, AGENT)[:-9], "line 1: the line has no end; the file was cut off"),
    "parquet": (b"PAR1\x00", "a parquet file"),
    "a half episode": (b'{"transcript": []}', "line 1: no field 'task'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_file_is_said_before_the_run_s_folder_is_made(kind: str, tmp_path: Path) -> None:
    content, fault = WRONG[kind]
    path = tmp_path / "shown.jsonl"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"base\.demonstrations_file: .*shown\.jsonl.*{fault}") as raised:
        run_loop(run_with(path), tmp_path / "run", Silent())
    assert "expected" in str(raised.value) or "Write it again" in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_line_beyond_the_limit_is_refused_before_it_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LONGEST_LINE", 1000)
    path = tmp_path / "shown.jsonl"
    path.write_bytes(said(USER, AGENT) + b"\n" + b" " * 995 + b"[1]\n\n")
    with pytest.raises(ValueError, match="line 2: list where an object is expected"):  # the limit itself is read
        load_demonstrations(path)
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole of a terabyte without a line's end
    with pytest.raises(ValueError, match="line 1: longer than 1,000 bytes, the limit"):
        load_demonstrations(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path, what in ((tmp_path / "none.jsonl", "no such file"), (tmp_path, "a folder, where a file is expected")):
        with pytest.raises(SettingsError, match=rf"base\.demonstrations_file: {path}: {what}"):
            run_loop(run_with(path), tmp_path / "run", Silent())


@pytest.mark.parametrize(
    ("base", "fault"),
    [
        ("{demonstrations_file: x, demonstrators: {random: 1}}", "the model is shown one of them: leave one out"),
        ("{demonstrations_file: x, worlds: 2}", "worlds=2 are for lessons and demonstrators; .* leave it out"),
        ("{demonstrations_file: 3}", "demonstrations_file=3 is int; expected str"),
        ("{demonstrations_file: [x]}", "demonstrations_file=.* is list; expected str"),
        ("{demonstration_file: x}", "did you mean 'demonstrations_file'"),
    ],
)
def test_settings_that_contradict_a_file_are_refused(base: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        load_config("smoke", ["env=TicTacToe", "env_options={}", f"base={base}"])


def test_a_file_in_the_home_folder_is_found_and_lessons_may_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config("smoke", ["base={demonstrations_file: ~/shown.jsonl, lessons: 160, worlds: 2}"])
    assert config.base.demonstrations_file == str(tmp_path / "shown.jsonl")
    assert np.isclose(config.base.reading_gate, 0.98)


def test_demonstrations_that_no_model_could_read_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_bytes(said(USER, {"role": "assistant", "content": "a " * 600}) + b"\n")
    with pytest.raises(RuntimeError, match=r"none of the 1 demonstrations can be learned from: .*512 positions"):
        do_stage(stages_of(run_with(path))[0], tmp_path / "run", lambda *_: None)
