"""The formulas of the search, one function each, on plain numbers and arrays: which action to try next
(``selection.py``, ``gumbel.py``, ``swe_search.py``), what a return does to the nodes above it (``backup.py``), and what
to play and to learn from in the end (``targets.py``). No trees, no simulators."""
