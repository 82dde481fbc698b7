"""The log on a Valkey or Redis server; `engine` has it. Needs `newswire[redis]`."""
