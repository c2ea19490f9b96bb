"""The attacks of AutoAttack, one step of many images at a time."""
