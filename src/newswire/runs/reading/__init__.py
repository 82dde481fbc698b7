"""Reading runs: the handle that an application has, and the stream of one reader."""
