"""Sending events to webhooks: `python -m streams.webhooks`. What waits to be sent, and the log, are `models.deliveries`.

`targets` says which URLs are taken, `addresses` what may be connected to, `posting` does one attempt, `schedule` says what
follows from it, `deliverer` carries on.
"""
