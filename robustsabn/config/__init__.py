"""Configuration: nested frozen dataclasses from YAML, mappings and dotted overrides; imports no torch."""

from robustsabn.config.loader import choices, dump, load, number, recipes, to_dict

__all__ = ["choices", "dump", "load", "number", "recipes", "to_dict"]
