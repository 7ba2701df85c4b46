"""Serving: the engine, its compiled programs and their latencies; exported programs."""
