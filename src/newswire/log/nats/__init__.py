"""The log on a NATS server with JetStream; `engine` has it. Needs `newswire[nats]`."""
