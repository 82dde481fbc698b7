"""The same small application in each framework: a stream of a channel, and a route that publishes to it."""
