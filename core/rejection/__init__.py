"""Which answers are worth learning: named rules, and the funnel that says what they took."""
