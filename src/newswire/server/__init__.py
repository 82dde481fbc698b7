"""The standalone server as an application: `create_app(Settings(...))`. The command is `newswire serve`."""

from newswire.extras import Extra

with Extra("newswire.server", "server"):
    from newswire.server.app import create_app
    from newswire.server.auth import Action, Authorizer, Denied
    from newswire.server.settings import Settings

__all__ = ["Action", "Authorizer", "Denied", "Settings", "create_app"]
