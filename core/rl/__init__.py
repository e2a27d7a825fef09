"""Reinforcement learning of a student: rewards, advantages, segments of training, rewards on val."""
