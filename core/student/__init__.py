"""What the student learns from, in which order, and the interface of the engines that teach it."""
