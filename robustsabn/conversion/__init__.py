"""Conversion of plain networks into routed ones and back."""
