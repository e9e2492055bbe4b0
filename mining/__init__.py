"""Find, explain and fix the errors of a vision model: plain Python, no web framework."""
