"""`robustsabn recipes`: the packaged configurations."""

import argparse

__all__ = ["HELP", "configure", "run"]

HELP = "list the packaged recipes that `train` takes by name"


def configure(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments."""


def run(args: argparse.Namespace) -> None:
    """Print the name and the first comment line of every recipe, by the kind of training."""
    from robustsabn.config.recipes import recipes, recipes_by_task
    from robustsabn.report.following import following

    width = max(map(len, recipes()), default=0)
    for task, of_task in recipes_by_task().items():
        print(f"task {task}:")
        for name, path in of_task.items():
            with path.open(encoding="utf-8") as file:
                first = file.readline()
            print(f"  {name:{width}}  {first.lstrip('# ').strip() if first.startswith('#') else ''}".rstrip())
    print(following("train", "digits"))
