"""Math with a Python tool: problems, interpreters, grading, rules."""
