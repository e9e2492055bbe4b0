"""Registering model versions."""

from __future__ import annotations

from typing import Any

from django import forms

from reviewapp.models import Dataset


class VersionForm(forms.Form):
    """A checkpoint and the model it is a version of."""

    name = forms.CharField(
        label="Model",
        max_length=100,
        help_text="A name that exists gets its next version; a new name makes a model.",
        widget=forms.TextInput(attrs={"list": "model-names", "autocomplete": "off"}),
    )
    checkpoint = forms.CharField(
        label="Checkpoint",
        help_text="Path or URL under one of the roots of this server: safetensors, "
        "PyTorch state dict, ONNX or torch.export archive, with its spec beside it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    note = forms.CharField(
        label="Note (optional)",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="What is new in it, for whoever reads the history.",
    )

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.known_names = list(
            dataset.registered_models.values_list("name", flat=True)
        )
