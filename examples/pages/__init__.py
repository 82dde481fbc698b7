"""Five small applications and one with htmx: each is one Python file and one HTML file. See docs/examples.md."""
