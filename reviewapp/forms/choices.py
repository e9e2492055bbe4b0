"""Menus of many choices that cost little to draw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from reviewapp.models import Dataset


class Menu(forms.Select):
    """A select without groups; Django renders a template for each of its options."""

    def render(
        self,
        name: str,
        value: Any,
        attrs: dict[str, Any] | None = None,
        renderer: Any = None,
    ) -> SafeString:
        """Return the menu as HTML."""
        chosen = "" if value is None else str(value)
        options = format_html_join(
            "\n",
            '<option value="{}"{}>{}</option>',
            (
                (key, SafeString(" selected") if str(key) == chosen else "", text)
                for key, text in self.choices
            ),
        )
        given = self.build_attrs(self.attrs, {**(attrs or {}), "name": name})
        return format_html("<select{}>\n{}\n</select>", flatatt(given), options)


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
