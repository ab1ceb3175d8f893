"""The trees of the search: node records (``nodes.py``), the kernels that walk down and back up (``descent.py``,
``ascent.py``), their arrays (``arrays.py``), and the trees made of them: with words (``tree.py``), of information sets
(``information_tree.py``)."""
