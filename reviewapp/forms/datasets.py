"""Registering data sets."""

from __future__ import annotations

from django import forms


class DatasetForm(forms.Form):
    """Where a new data set lies."""

    name = forms.CharField(label="Name", max_length=100)
    root = forms.CharField(
        label="Folder",
        help_text="Path or URL under one of the roots of this server.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    manifest = forms.CharField(
        label="Manifest (optional)",
        required=False,
        help_text="CSV, JSON lines or Parquet file in the folder, with the columns "
        "path, label and, if there are any, split and more. Without one, each folder "
        "is a class, and folders named train, val and test above them are splits.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
