"""Numbers as text."""

__all__ = ["duration", "eps_text", "percent"]


def percent(share: float, decimals: int = 2) -> str:
    """0.4321 as "43.21 %"."""
    return f"{100 * share:.{decimals}f} %"


def eps_text(eps: float) -> str:
    """A radius as "0.5" if three digits are exact, as "8/255" if that is exact, else with four digits."""
    levels = round(255 * eps)
    if 0 < levels < 128 and abs(levels / 255 - eps) < 1e-6 and abs(float(f"{eps:.3g}") - eps) > 1e-6:
        return f"{levels}/255"
    return f"{eps:.4g}"


def duration(seconds: float) -> str:
    """Seconds as "0.4 s", "42 s", "3 min 05 s" or "2 h 10 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
