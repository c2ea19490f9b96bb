"""Reports for readers and for programs: files, page, terminal, progress, RobustBench."""

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
