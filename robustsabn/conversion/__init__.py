"""Plain networks to routed ones and back."""
