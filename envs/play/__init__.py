"""Playing: what is to be played, what was said, who decides, and one lock-step for all who play."""
