"""The stages by hand: search → pairs → training → evaluation, with a model folder of your own.

python examples/stages.py runs/web_shop/base/model better     # the model to start from, and where the trained one goes

A hundred goals and one round, in half a minute: enough to see each stage, too few to count on a gain. ``branchwise
loop`` takes hundreds of goals, three rounds, and the learning rate that does best on goals of its own.
"""

import sys

import numpy as np

from branchwise import simulator_for
from branchwise.agents.language_model import LanguageModel
from branchwise.envs.play.players import PolicyAgent
from branchwise.envs.play.transcript import observed
from branchwise.search import PolicyRollout, Root, SearchSettings, anchors, search, sibling_pairs
from branchwise.training.evaluation import evaluate
from branchwise.training.preference import PreferenceSettings, train_preference

ENV, MODE = "branchwise/WebShop-v0", "compact"
if len(sys.argv) != 3:
    sys.exit("usage: python examples/stages.py MODEL OUT, a model's folder and the trained one's")
try:
    policy = LanguageModel.load(sys.argv[1], history="last_observation")
except (FileNotFoundError, ValueError) as error:
    sys.exit(f"{error}")
tasks = [{"seed": 0, "options": {"goal": goal}} for goal in range(100)]
test = simulator_for(ENV, observation_mode=MODE, split="test")
before, _ = evaluate(test, tasks, PolicyAgent(policy), env=ENV, split="test", seed=0)

shop = simulator_for(ENV, observation_mode=MODE)
states = [shop.reset(**task) for task in tasks]
roots = [Root(s, (observed(shop.observation(s)),), task) for s, task in zip(states, tasks, strict=True)]
trees = search(shop, roots, policy, PolicyRollout(policy), SearchSettings(simulations=16), np.random.default_rng(0))
pairs = [row for tree in trees for row in sibling_pairs(tree, 0.2)[0] + anchors(tree)[0]]
settings = PreferenceSettings(learning_rate=1.5e-3, epochs=2)  # for a small model; a pretrained one wants 1e-6
train_preference(
    policy.model, policy.tokenizer, pairs, settings, seed=0, history=policy.history, max_tokens=policy.max_prompt_tokens
)
policy.save(sys.argv[2])
after, _ = evaluate(test, tasks, PolicyAgent(policy), env=ENV, split="test", seed=0)
print(f"{len(pairs)} pairs and anchors; success {before.success:.0%} before, {after.success:.0%} after")
