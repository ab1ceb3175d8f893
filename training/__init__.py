"""From what a search saw to a better model: rows, losses, critics, the loop, evaluation.

``rows`` turns turns into tokens with exact masks; ``supervised`` clones and fine-tunes; ``preference`` does step-DPO
and its family on TRL; ``value_model`` trains critics; ``evaluation`` measures. Import the modules that are needed:
nothing is imported here, since TRL alone takes seconds.
"""
