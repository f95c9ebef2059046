"""Reports as data, and their shapes: on a terminal, as Markdown, as web pages."""
