"""The servers under test, each as its documentation says to write it, all with the same face.

* `GET /events` streams; `GET /events/{number}` streams a common and a private channel, where there are channels.
* `GET /start?rate=R&events=E&size=S` publishes, from a timer in the server, E events of S bytes at R a second. The data
  begins with `t=` and the time of publishing: CLOCK_MONOTONIC in nanoseconds, 19 digits.
* `GET /stats` tells how many are subscribed, and how far publishing has come.

`floor.c` answers the same. `control` holds what they share.
"""
