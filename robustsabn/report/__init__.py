"""Templates of pages, charts, and numbers as text; imports neither attacks nor trainers."""
