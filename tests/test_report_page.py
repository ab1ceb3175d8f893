"""The report of a run: a run folder is made from real searches and episodes in a small shop, and the page is parsed."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from branchwise.envs.play.players import PolicyAgent, scripted_agents
from branchwise.envs.play.policy import Proposal
from branchwise.envs.play.transcript import Transcript, observed
from branchwise.envs.registry import simulator_for
from branchwise.search.engine import Root, SearchSettings, search
from branchwise.search.evaluation import PolicyRollout
from branchwise.search.extraction import sibling_pairs
from branchwise.search.records import save_episodes, save_pairs
from branchwise.search.store import save_trees
from branchwise.training.display import key_figure
from branchwise.training.evaluation import evaluate
from branchwise.training.report import _curve, _round_row, agent_name, read_run, render, write_report
from branchwise.training.run_folder import budgets

HOSTILE = "<script>alert('x')</script>\"&<b>\u202e\u200b"
RECIPES = {"rft": (0.31, 0.44), "tree_sft": (0.38, 0.46), "trajectory_dpo": (0.33, 0.40), "step_dpo": (0.42, 0.58)}


class ShopPolicy:
    """Searches the goal's last words, and with ``skill`` above 0 prefers what the goal's words name."""

    def __init__(self, skill: float) -> None:
        self.skill, self.calls = skill, 0

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        goals = [transcript[0].text.split("\n")[0].removeprefix("goal ").split() for transcript in transcripts]
        texts = [[" ".join(goal[: 2 + 2 * i]) for i in range(n)] for goal in goals]
        return [[Proposal(f"search[{text}]", -1.0) for text in row] for row in texts]

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        self.calls += len(transcripts)
        return [self._score(t, actions) for t, actions in zip(transcripts, candidates, strict=True)]

    def _score(self, transcript: Transcript, actions: Sequence[str]) -> np.ndarray:
        page, goal = transcript[-1].text, transcript[0].text.split("\n")[0].split()
        rows = {line.split()[0]: line for line in page.split("\n") if line}
        logits = []
        for action in actions:
            label = action.removeprefix("click[").removesuffix("]")
            title = rows.get(label, "") if label.startswith("#") else label
            named = sum(word in goal for word in title.split())
            done = label in page.split("chosen ")[-1].split() if "chosen " in page else False
            constant = label in ("back to search", "next >", "< prev", "description", "features", "reviews")
            logits.append(-3.0 if constant or done else 0.5 if label == "buy now" else self.skill * named)
        exp = np.exp(np.array(logits))
        return np.log(exp / exp.sum())


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, default=float))


def make_run(path: Path, *, products: int = 100, goals: int = 24, simulations: int = 40) -> Path:
    """A finished run's folder, without models. Figures of training are made up; trees, pairs and episodes are not."""
    simulator = simulator_for("branchwise/WebShop-v0", products=products, observation_mode="compact", split="test")
    tasks = [{"env_id": "branchwise/WebShop-v0", "seed": i, "options": {"goal": i}} for i in range(goals)]
    weak, strong = ShopPolicy(0.0), ShopPolicy(1.5)
    agents = {
        **{name: scripted_agents("branchwise/WebShop-v0")[name]() for name in ("random", "rule_based")},
        "behaviour_cloning": PolicyAgent(weak),
        **{name: PolicyAgent(strong) for name in ("rft", "tree_sft", "trajectory_dpo", "step_dpo")},
    }
    rows = []
    for name, agent in agents.items():
        row, episodes = evaluate(simulator, tasks, agent, env="branchwise/WebShop-v0", split="test", seed=0)
        row = replace(row, agent=name)
        rows.append(asdict(row))
        save_episodes(path / "evaluation" / name / "episodes.jsonl", episodes)
        write_json(path / "evaluation" / name / "figures.json", asdict(row))
    for name in ("behaviour_cloning+mcts", "step_dpo+mcts", "behaviour_cloning+mcts_oracle", "step_dpo+mcts_oracle"):
        rows.append({**rows[-1], "agent": name, "model_calls": 17.3})
    write_json(path / "results.json", rows)
    (path / "config.yaml").write_text("name: synthetic\nsearch:\n  simulations: 40\n")
    write_json(
        path / "base" / "figures.json",
        {"reading_accuracy": 0.993, "validation_success": 0.25, "parameters": 412_000, "demonstrations": 9000},
    )
    write_json(path / "critic" / "figures.json", {"explained_variance": 0.41, "rows": 12_000})
    states = [simulator.reset(task["seed"], task["options"]) for task in tasks[:8]]
    roots = [Root(s, (observed(simulator.observation(s)),), t) for s, t in zip(states, tasks[:8], strict=True)]
    settings = SearchSettings(simulations=simulations, proposals=2)
    trees = search(
        simulator, roots, ShopPolicy(0.4), PolicyRollout(ShopPolicy(0.4)), settings, np.random.default_rng(0)
    )
    save_trees(path / "round_1" / "trees" / "trees.parquet", trees)
    found = [sibling_pairs(tree, 0.2, round=1) for tree in trees]
    save_pairs(path / "step_dpo" / "round_1" / "model" / "pairs.jsonl", [pair for pairs, _ in found for pair in pairs])
    dropped = sum((reasons for _, reasons in found), Counter[str]())
    for recipe, successes in RECIPES.items():
        for number, success in enumerate(successes, 1):
            write_json(
                path / recipe / f"round_{number}" / "model" / "figures.json", _figures(recipe, number, success, dropped)
            )
    return path


def _figures(recipe: str, number: int, success: float, dropped: Counter[str]) -> dict[str, Any]:
    preference = recipe.endswith("dpo")
    return {
        "recipe": recipe,
        "round": number,
        "pairs" if preference else "rows": 1234 * number,
        "dropped": dict(dropped),
        "validation_success": success,
        "validation_success_before": 0.25,
        "promoted": (recipe, number) != ("trajectory_dpo", 2),
        "episode_length": 9.1 - number,
        "chosen_logp_per_token": -0.4 + 0.1 * number,
        "chosen_kinds": {"search": 120, "open": 410, "option": 260, "buy": 90},
        "rejected_kinds": {"search": 140, "open": 530, "option": 160, "buy": 310, "back": 44} if preference else {},
        "candidates": [
            {"learning_rate": 1e-4, "epochs": 1, "validation_success": success - 0.05},
            {"learning_rate": 3e-4, "epochs": 2, "validation_success": success},
        ],
        "model_calls": 48_000,
        "seconds": 71.5,
    }


class Page(HTMLParser):
    """Tags with attributes, the text of each element of interest, and whether the tags close in order."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes out of order at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def classes(self, tag: str) -> list[str]:
        return [attributes.get("class") or "" for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "synthetic")


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    target = write_report(finished)
    assert target == finished / "report.html"
    return Page(target.read_text(encoding="utf-8"))


def copy_of(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / "copy"))


def test_page_is_well_formed(page: Page) -> None:
    assert page.open == []


def test_page_is_self_contained(page: Page) -> None:
    """Nothing that a browser would fetch, and nothing that runs."""
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base"}
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset", "xlink:href", "action"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in "".join(page.rawdata)


def test_all_rows_are_there_with_their_intervals(page: Page, finished: Path) -> None:
    for row in json.loads((finished / "results.json").read_text()):
        assert agent_name(row["agent"]).removesuffix(", oracle") in page.text
        assert f"[{100 * row['success_low']:.1f}, {100 * row['success_high']:.1f}]" in page.text
    assert sum(name == "whisker" for name in page.classes("div")) == 11


def test_oracle_rows_are_marked(page: Page) -> None:
    assert sum(name.startswith("oracle") for name in page.classes("tr")) == 2
    assert page.classes("span").count("tag") == 3  # the two rows, and the word that explains them


def test_players_by_rule_are_references_and_a_run_for_reward_is_told_by_reward(tmp_path: Path, finished: Path) -> None:
    run = copy_of(finished, tmp_path)
    rows = json.loads((run / "results.json").read_text())
    base = next(row for row in rows if row["agent"] == "behaviour_cloning")
    by_rule = {**base, "agent": "careful", "success": 1.0, "success_low": 0.9, "success_high": 1.0}
    best = next(row for row in rows if row["agent"] == "step_dpo")
    base.update(reward=-0.5, reward_low=-0.6, reward_high=-0.4)
    for row in rows:
        if row["agent"] not in ("random", "rule_based", "behaviour_cloning"):
            row.update(reward=0.0, reward_low=-0.1, reward_high=0.1)
    best.update(reward=0.25, reward_low=0.2, reward_high=0.3)
    write_json(run / "results.json", [*rows, by_rule])
    headline = " ".join(render(read_run(run)).split("</header>")[0].split())
    assert "success goes from" in headline
    assert "The scripted player careful reaches 100.0" in headline
    figures = run / "base" / "figures.json"
    write_json(figures, {**json.loads(figures.read_text()), "validation_reward": -0.5})
    headline = " ".join(render(read_run(run)).split("</header>")[0].split())
    assert "the mean reward goes from" in headline
    assert "-0.500 <small>[-0.60, -0.40]</small>" in headline
    assert "0.250 <small>[0.20, 0.30]</small>" in headline
    assert "do not overlap" in headline


def test_a_run_for_reward_draws_its_rewards_from_zero_to_both_sides(tmp_path: Path, finished: Path) -> None:
    run = copy_of(finished, tmp_path)
    rows = json.loads((run / "results.json").read_text())
    for row in rows:
        row.update(reward=-0.5, reward_low=-0.6, reward_high=-0.4)
    rows[-1].update(reward=0.25, reward_low=0.2, reward_high=0.3)
    write_json(run / "results.json", rows)
    assert ">25</i>" in render(read_run(run)), "of success"
    figures = run / "base" / "figures.json"
    write_json(figures, {**json.loads(figures.read_text()), "validation_reward": -0.5})
    page = render(read_run(run))
    assert re.findall(r"<i>([^<]*)</i>", page)[:6] == ["−0.75", "−0.50", "−0.25", "0.00", "0.25", "0.50"]
    bars = re.findall(r'class="fill" style="left:([0-9.]+)%;width:([0-9.]+)%"', page)
    assert set(bars) == {("20.00", "40.00"), ("60.00", "20.00")}
    assert "chosen by the mean reward on validation goals" in page


def test_further_figures_stand_in_a_table_of_their_own(tmp_path: Path, finished: Path) -> None:
    run = copy_of(finished, tmp_path)
    rows = json.loads((run / "results.json").read_text())
    assert "What else the environment measures" not in render(read_run(run))
    rows[0]["figures"] = {"deal": {"mean": 0.5, "low": 0.25, "high": 0.75, "episodes": 40}}
    rows[1]["figures"] = {"exploitability": {"mean": 2.5}}
    write_json(run / "results.json", rows)
    page = " ".join(render(read_run(run)).split())
    assert '<th class="num">Deal</th><th class="num">Exploitability</th>' in page
    assert '<td class="num">0.500 [0.25, 0.75]</td><td class="num">–</td>' in page
    assert '<td class="num">–</td><td class="num">2.50</td>' in page


def test_headline_leaves_the_oracle_out(tmp_path: Path, finished: Path) -> None:
    run = copy_of(finished, tmp_path)
    rows = json.loads((run / "results.json").read_text())
    for row in rows:
        row["success"] = {"step_dpo+mcts_oracle": 1.0, "step_dpo+mcts": 0.75, "behaviour_cloning": 0.25}.get(
            row["agent"], 0.5
        )
    write_json(run / "results.json", rows)
    headline = render(read_run(run)).split("</header>")[0]
    assert "75.0" in headline
    assert "100.0" not in headline
    assert "3 times the base" in headline


def test_charts_have_a_curve_for_each_recipe(page: Page) -> None:
    assert page.classes("polyline").count("curve") == 4 * 3
    for recipe in RECIPES:
        assert page.text.count(agent_name(recipe)) >= 3


def test_model_that_was_not_promoted_is_drawn_hollow(page: Page) -> None:
    hollow = [a for tag, a in page.tags if a.get("class") == "hollow"]
    assert len(hollow) == 3  # once in each of the three charts
    assert "trained but not promoted" in page.text


def test_sample_goal_is_one_that_the_base_misses_and_the_trained_agent_reaches(page: Page) -> None:
    assert "outcome lost" in page.classes("span")
    assert "outcome won" in page.classes("span")
    assert page.classes("article") == ["", ""]
    assert "action" in page.classes("li")


def test_tree_marks_as_many_chosen_as_rejected_edges(page: Page) -> None:
    edges = page.classes("path")
    assert "edge chosen" in edges
    assert "edge rejected" in edges
    nodes = [name for name in page.classes("g") if name.startswith("node")]
    assert 10 < len(nodes) <= 50


def test_settings_are_shown(page: Page) -> None:
    assert "simulations: 40" in page.text


def test_kinds_of_action_are_counted(page: Page) -> None:
    assert "What was chosen and rejected, by kind of action" in page.text
    assert "option" in page.text


def test_same_run_gives_the_same_page(finished: Path) -> None:
    assert render(read_run(finished)) == render(read_run(finished))


def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path, finished: Path) -> None:
    run = copy_of(finished, tmp_path)
    for path in [*run.rglob("*.jsonl")]:
        path.write_text(path.read_text().replace("steps 1", json.dumps(HOSTILE)[1:-1] + " steps 1"))
    (run / "config.yaml").write_text(f"name: {HOSTILE}\n")
    rows = json.loads((run / "results.json").read_text())
    rows[3]["agent"] = HOSTILE
    write_json(run / "results.json", rows)
    figures = run / "step_dpo" / "round_1" / "model" / "figures.json"
    write_json(figures, {**json.loads(figures.read_text()), "dropped": {HOSTILE: 3}, "rejected_kinds": {HOSTILE: 1}})
    html = render(read_run(run))
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script" not in html
    assert page.text.count("alert('x')") >= 5
    assert not set("\u202e\u200b\x1b") & set(html)


def test_hostile_actions_in_a_tree_are_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", goals=8, simulations=8)
    path = run / "step_dpo" / "round_1" / "model" / "pairs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["prompt"].append({"role": "assistant", "content": HOSTILE})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    html = write_report(run).read_text(encoding="utf-8")
    assert "<script" not in html
    assert not set("\u202e\u200b\x1b") & set(html)


def test_lone_surrogates_do_not_stop_the_page(tmp_path: Path, finished: Path) -> None:
    run = copy_of(finished, tmp_path)
    write_json(run / "base" / "figures.json", {"validation_success": 0.2})
    rows = json.loads((run / "results.json").read_text())
    rows[0]["env"] = "\ud800"
    write_json(run / "results.json", rows)
    assert write_report(run).is_file()


@pytest.mark.parametrize(
    "missing",
    [
        ("results.json",),
        ("results.json", "evaluation"),
        ("evaluation",),
        ("config.yaml",),
        ("base", "critic"),
        ("round_1",),
        ("rft", "tree_sft", "trajectory_dpo", "step_dpo"),
        ("results.json", "evaluation", "step_dpo", "round_1", "critic", "config.yaml"),
    ],
    ids=" ".join,
)
def test_partial_run_shows_what_stands(tmp_path: Path, finished: Path, missing: tuple[str, ...]) -> None:
    run = copy_of(finished, tmp_path)
    for name in missing:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.open == []
    assert ("This run is not finished" in page.text) == ("results.json" in missing)


def test_empty_folder_gives_a_page_that_says_so(tmp_path: Path) -> None:
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "No agent has been evaluated yet." in text
    assert "No round of training has finished yet." in text


def test_missing_folder_is_an_error_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="branchwise loop"):
        write_report(tmp_path / "nowhere")


def test_broken_figures_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "figures.json").write_text('{"validation_success": 0.2')
    with pytest.raises(ValueError, match=r"base.figures\.json: not JSON"):
        write_report(tmp_path)


def test_results_of_another_shape_are_an_error(tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", {"agent": "x"})
    with pytest.raises(ValueError, match="expected a list of rows"):
        write_report(tmp_path)


def test_figures_that_are_no_numbers_name_the_file(tmp_path: Path, finished: Path) -> None:
    run = copy_of(finished, tmp_path)
    figures = run / "rft" / "round_1" / "model" / "figures.json"
    good = json.loads(figures.read_text())
    for change in ({"validation_success": "high"}, {"model_calls": 10**400}):
        write_json(figures, {**good, **change})
        with pytest.raises(ValueError, match=r"rft.round_1.model.figures\.json: "):
            write_report(run)
    write_json(figures, good)
    rows = json.loads((run / "results.json").read_text())
    for name, value, fault in (
        ("success", "high", "success is 'high'; expected a number"),
        ("reward", 10**400, "reward of .* is 10{39}"),
        ("steps", float("nan"), "steps is nan; expected a number"),
        ("agent", 3, "agent is 3; expected a text"),
    ):
        write_json(run / "results.json", [{**rows[0], name: value}])
        with pytest.raises(ValueError, match=rf"results\.json: .*{fault}"):
            write_report(run)
    write_json(run / "results.json", [{"agent": "rft"}])
    with pytest.raises(ValueError, match=r"results\.json: a row has no 'env'"):
        write_report(run)


def unpromoted(run: Path, recipes: Sequence[str]) -> None:
    for recipe in recipes:
        for figures in run.glob(f"{recipe}/*/model/figures.json"):
            write_json(figures, {**json.loads(figures.read_text()), "promoted": False, "validation_success": 0.25})


def test_where_nothing_was_promoted_headline_and_table_say_that_the_rows_are_the_base(
    tmp_path: Path, finished: Path
) -> None:
    run = copy_of(finished, tmp_path)
    assert not any("is the base" in line or "are the base" in line for line in budgets(read_run(run)))
    unpromoted(run, list(RECIPES))
    rows = [row for row in json.loads((run / "results.json").read_text()) if "+" not in row["agent"]]
    write_json(run / "results.json", [{**row, "success": 0.5} for row in rows])
    page = Page(render(read_run(run)))
    headline = page.text.split("Results on held-out goals")[0]
    note = (
        "No candidate of RFT, Tree-SFT, Trajectory-DPO, Step-DPO was better on validation goals, so none was promoted. "
        "These rows are the base itself."
    )
    assert note in headline
    assert "times the base" not in headline
    assert page.text.count(note) == 2  # under the table again
    assert next(budgets(read_run(run))) == note


def test_a_recipe_of_which_nothing_was_promoted_is_named_under_the_table(tmp_path: Path, finished: Path) -> None:
    run = copy_of(finished, tmp_path)
    unpromoted(run, ["rft"])
    note = "No candidate of RFT was better on validation goals, so none was promoted. This row is the base itself."
    assert next(budgets(read_run(run))) == note
    assert note in Page(render(read_run(run))).text


def test_pairs_and_anchors_are_counted_once_and_by_the_same_words(tmp_path: Path, finished: Path) -> None:
    """The loop's ``rows`` are pairs and anchors together."""
    run = copy_of(finished, tmp_path)
    for number, pairs, anchors in ((1, 25, 20), (2, 5, 4)):
        path = run / "step_dpo" / f"round_{number}" / "model" / "figures.json"
        counts = {"pairs": pairs, "anchors": anchors, "rows": pairs + anchors}
        write_json(path, {**json.loads(path.read_text()), **counts})
    text = Page(render(read_run(run))).text
    assert text.count("Trained on") == 2
    for count in ("30 pairs, 24 anchors", "25 pairs, 20 anchors", "5 pairs, 4 anchors"):
        assert text.count(count) == 1
    assert "Rows or pairs" not in text


def test_a_candidate_that_was_not_promoted_is_drawn_at_its_own_success(tmp_path: Path, finished: Path) -> None:
    """The figures of its round are those of the model that stands."""
    run = copy_of(finished, tmp_path)
    path = run / "rft" / "round_1" / "model" / "figures.json"
    candidates = [{"learning_rate": 1e-4, "validation_success": 0.125}, {"validation_success": 0.1875}]
    found = {"promoted": False, "validation_success": 0.25, "candidates": candidates}
    write_json(path, {**json.loads(path.read_text()), **found})
    read = read_run(run)
    curve = _curve(read, "rft", "validation_success")
    assert (curve.points[:2], curve.rejected) == (((0, 0.25), (1, 0.25)), ((1, 0.1875),))
    row = next(row for row in map(_round_row, read.rounds) if (row["recipe"], row["round"]) == ("RFT", 1))
    assert (row["best"], row["after"], row["promoted"]) == ("18.8\u202f%", "25.0\u202f%", False)
    assert key_figure(found) == "validation success 18.8\u202f%, not promoted"
