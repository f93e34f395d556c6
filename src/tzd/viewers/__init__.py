"""What shows frames and records to a person: the terminal, plots. None knows an engine."""
