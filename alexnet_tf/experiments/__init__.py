"""The paper's claims as small functions over the library, each beside its published number.

An experiment is a module with `run(setting) -> Finding`; `registry.EXPERIMENTS` names them.
"""
