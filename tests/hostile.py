"""Texts that would be something else, were they written into a page as they are."""

from __future__ import annotations

from typing import Final

#: What each would do if it got out of where it stands is call `ran()`.
HOSTILE: Final = (
    "</script><script>ran()</script>",
    "<!--<script>ran()",
    "--><script>ran()</script>",
    '" autofocus onfocus=ran() x="',
    "' autofocus onfocus=ran() x='",
    "\u2028ran()\u2029",
    "</output></form><img src=x onerror=ran()>",
    "</title></textarea></style><svg onload=ran()>",
    "&quot; autofocus onfocus=ran() x=&quot;",
    "javascript:ran()",
)
