"""The inside half of `jelmore doctor`: `python -m app.doctor` looks at the servers with the service's own environment.

It gathers facts and prints them as JSON; what they mean is decided in `jelmore.doctor`. It changes nothing anywhere.
"""
