"""Reinforcement learning: `rewards` samples and rewards answers, `stages` trains on them."""
