"""Reports as files, as a page, on the terminal, and in the format of RobustBench; progress bars."""

from robustsabn.attacks.reporting.console import console_table, tell
from robustsabn.attacks.reporting.document import document
from robustsabn.attacks.reporting.files import write
from robustsabn.attacks.reporting.progress import live
from robustsabn.attacks.reporting.robustbench import robustbench_json, write_robustbench

__all__ = [
    "console_table",
    "document",
    "live",
    "robustbench_json",
    "tell",
    "write",
    "write_robustbench",
]
