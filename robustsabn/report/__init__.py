"""Pages and plots: templates, charts, and numbers as text. Knows neither attacks nor trainers."""
