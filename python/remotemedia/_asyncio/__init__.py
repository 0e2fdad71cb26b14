"""Coroutines and async generators, driven from Rust."""
