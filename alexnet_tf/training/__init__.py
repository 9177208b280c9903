"""How the networks learn: recipes, optimiser, strategies, checkpoints, the loop."""
