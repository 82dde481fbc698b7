"""The browser's half of newswire: the built JavaScript package, as an ASGI application.

`newswire serve` has it at `/newswire.js`; `newswire_js` puts it into any other application. A page then needs no npm:
`import { connect } from "/newswire.js"`. The file is built from `js/src`.
"""

from newswire.browser.script import BrowserScript, newswire_js

__all__ = ["BrowserScript", "newswire_js"]
