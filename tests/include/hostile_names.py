"""Names of files and labels that would break a page that did not escape them."""

from __future__ import annotations

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '" onerror="alert(1)" x="',
    "{{ 7 * 7 }} & \u2028 ' \\",
    "\u202egnp.exe \u05d0\u05d1",
    "\U0001f353\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "x" * 300,
]
