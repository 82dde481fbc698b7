"""Finds what is wrong with an event stream, anyone's, and says how to cure it: `newswire doctor URL`.

It connects as a browser, as curl and as an SDK would, watches for a while, and compares. It sends nothing but GET and
HEAD, unless told to POST, and reads a few connections at most. A finding is something that costs readers events, delays
or connections; what is only worth knowing is a note.
"""

from newswire.doctor.examine import Patient, Report, examine
from newswire.doctor.findings import Finding, Severity

__all__ = ["Finding", "Patient", "Report", "Severity", "examine"]
