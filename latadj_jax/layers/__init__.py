"""Layers that the families share: products, attention, norms, dropout, embeddings."""
