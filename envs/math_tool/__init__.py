"""Math word problems with a Python tool: problems, interpreter, grading, rules."""
