"""What shows frames and records to a person: the terminal, a window, animations, pages, pictures. None knows an engine.

A viewer takes panels (`Panel`: what the frames do not say themselves) and an iterator of moments, a tuple of `Frame`
with one for each panel.
"""
