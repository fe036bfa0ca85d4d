"""The verdict: final networks exported, measured, and set against the prediction."""
