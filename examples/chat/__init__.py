"""A chat whose answers outlive refreshes, second tabs and `kill -9`: see `app`."""
