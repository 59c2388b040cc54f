"""What goes wrong in training and has one clear line to say about it."""


class TrainingError(ValueError):
    """Wrong data, configuration or checkpoint; the message says what was found and expected."""
