"""The browser's half of newswire, as ASGI applications: the built JavaScript package, and the look of newswire's pages.

`newswire serve` has the files of `FILES`; one loop puts them into any other application. A page then needs no npm:
`import { connect } from "/newswire.js"`. That file is built from `js/src`. `newswire.css` says in its first lines what
it has.
"""

from newswire.browser.files import FILES, BrowserFile, newswire_js

__all__ = ["FILES", "BrowserFile", "newswire_js"]
