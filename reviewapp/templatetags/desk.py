"""Keys on buttons."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def kbd(key: str) -> SafeString:
    """Draw a key; nothing where a person has none for it."""
    return format_html("<kbd>{}</kbd>", key) if key else SafeString("")
