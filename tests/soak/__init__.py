"""The soak: random copies of random trees with random faults, each told by a seed and a number."""
