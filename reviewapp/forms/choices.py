"""Menus of many choices that cost little to draw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from django import forms
from django.forms.utils import flatatt
from django.utils.html import format_html
from django.utils.safestring import SafeString

from reviewapp.models import Dataset


class Menu(forms.Select):
    """A select without groups; Django renders a template for each of its options."""

    choices: Any = ()  # as they are given, pairs: Django would look into each

    def render(
        self,
        name: str,
        value: Any,
        attrs: dict[str, Any] | None = None,
        renderer: Any = None,
    ) -> SafeString:
        """Return the menu as HTML."""
        chosen = "" if value is None else str(value)
        options = SafeString("\n".join(_options(self.choices, chosen)))
        given = self.build_attrs(self.attrs, {**(attrs or {}), "name": name})
        return format_html("<select{}>\n{}\n</select>", flatatt(given), options)


def datalist(name: str, texts: Iterable[str]) -> SafeString:
    """Return a datalist of many texts as HTML, `name` its id."""
    options = SafeString(
        "".join(f'<option value="{escape(t)}"></option>' for t in texts)
    )
    return format_html('<datalist id="{}">{}</datalist>', name, options)


# Names of a thousand classes, on some pages in three menus: Django's own `escape` asks of
# each what kind of string it is and takes ten times as long.
def _options(choices: Iterable[Any], chosen: str) -> Iterator[str]:
    for key, text in choices:
        value = str(key)
        selected = " selected" if value == chosen else ""
        yield f'<option value="{escape(value)}"{selected}>{escape(str(text))}</option>'


def offer_choices(form: forms.Form, dataset: Dataset) -> None:
    """Give the label and model menus of a filter their choices, in two queries."""
    labels = dataset.labels.order_by("index", "name").values_list("pk", "name")
    models = dataset.registered_models.values_list("pk", "name")
    _offer(form, ("true_label", "predicted_label"), labels)
    _offer(form, ("registered_model",), models)


def _offer(
    form: forms.Form, names: Iterable[str], rows: Iterable[tuple[int, str]]
) -> None:
    choices = [("", "any"), *rows]
    for name in names:
        form.fields[name].widget = Menu(choices=choices)
