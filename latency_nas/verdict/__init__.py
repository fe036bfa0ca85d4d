"""The verdict: final networks are exported, measured, and compared with their prediction."""
