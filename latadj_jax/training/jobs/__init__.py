"""What a training run needs, by the kind of its data."""
