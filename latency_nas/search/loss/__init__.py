"""The latency term of a loss: targets, penalties, constraints and schedules."""
