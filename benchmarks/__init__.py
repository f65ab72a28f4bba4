"""Measures st_eval_callbacks against sentence-transformers and others: ``python -m benchmarks``."""
