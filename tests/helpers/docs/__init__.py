"""Helpers of the tests of the documentation."""
