"""What makes a measurement worthless."""


class MeasurementFailed(Exception):
    """Messages were lost, repeated or late, or a server did not do what the measurement needs."""
