"""What the trainers of all engines share: learning-rate schedules, the rule of the moving average, metrics."""
