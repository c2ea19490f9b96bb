"""`python -m robustsabn` and the console script `robustsabn`."""

from robustsabn.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
