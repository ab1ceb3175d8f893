"""Board games, card games and social deduction, a file a game: numba kernels where they pay, and a simulator."""
