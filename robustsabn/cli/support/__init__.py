"""Shared by several commands: arguments, folders of evaluations, the model under attack, error messages."""
