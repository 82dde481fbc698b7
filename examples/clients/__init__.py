"""Event streams of other people's services, read with newswire's client as they are."""
