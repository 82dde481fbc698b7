"""What makes streams cheaper by private things of uvicorn, Starlette and asyncio.

Streams are right without any of it. Each module says what it saves, what it relies on, and what happens when that is
gone: a slower stream and one line in the log, never a broken one.
"""
