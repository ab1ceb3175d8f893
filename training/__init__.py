"""From what a search saw to a better model: rows, losses, critics, the loop, evaluation.

``rows`` turns turns into tokens with exact masks; ``trainer`` is the one optimiser loop; ``supervised`` clones and
fine-tunes, ``preference`` does step-DPO and its family, ``kto`` and ``oreo`` learn from single trajectories,
``policy_gradient`` from steps with advantages, ``value`` trains critics, each as a loss under it; ``trl_trainer`` hands
step pairs to TRL; ``evaluation`` measures. Import the modules that are needed: nothing is imported here.
"""
