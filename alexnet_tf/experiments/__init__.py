"""The paper's claims as experiments, each with its published number.

An experiment is a module with `run(context) -> Result`; `registry.EXPERIMENTS` names them.
"""
