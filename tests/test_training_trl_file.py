"""The pair file is the world's: ``trl dpo`` trains on it with none of our code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from branchwise.agents.small_model import make_model, make_tokenizer
from branchwise.envs.play.transcript import acted, observed
from branchwise.search.extraction import PreferencePair
from branchwise.search.records import save_pairs

TRL = Path(sys.executable).with_name("trl")
CONFIG = """
model_name_or_path: {folder}/model
datasets:
  - path: json
    data_files: {folder}/pairs/train.jsonl
output_dir: {folder}/out
max_steps: 1
per_device_train_batch_size: 2
learning_rate: 1.0e-2
bf16: false
use_cpu: true
report_to: none
"""


@pytest.mark.slow
@pytest.mark.skipif(not TRL.exists(), reason="the trl command is not installed beside this interpreter")
def test_trl_dpo_trains_on_a_pair_file(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(["goal", "red", "shirt", "one", "two"])
    model = make_model(tokenizer, width=16, layers=1, heads=2)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    prompt = (observed("goal red shirt"), acted("search[red shirt]"), observed("one two"))
    step = PreferencePair(prompt, (acted("click[one]"),), (acted("click[two]"),), chosen_q=1.0, ref_chosen_logp=-3.0)
    episode = PreferencePair(prompt[:1], (*prompt[1:], acted("click[one]")), (acted("click[two]"),), task={"goal": 3})
    (tmp_path / "pairs").mkdir()
    anchor = PreferencePair(prompt, (acted("click[one]"),))
    save_pairs(tmp_path / "pairs" / "train.jsonl", [step, anchor, episode])
    assert (tmp_path / "pairs" / "train.anchors.jsonl").is_file()
    (tmp_path / "config.yaml").write_text(CONFIG.format(folder=tmp_path))
    done = subprocess.run(
        [str(TRL), "dpo", "--config", str(tmp_path / "config.yaml")],
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "cache"),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        },
        cwd=tmp_path,  # the repository's own folders would shadow packages of the same names
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    changed = [
        not torch.equal(a, b) for a, b in zip(trained.state_dict().values(), model.state_dict().values(), strict=True)
    ]
    assert any(changed)
