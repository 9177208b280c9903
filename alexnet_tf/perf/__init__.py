"""How fast this package is on this machine: step, input, both together, serving."""
