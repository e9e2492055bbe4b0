"""Signing in and out, one's own account, and the members of a data set."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from knox.models import AuthToken

from reviewapp.access import access_dataset, access_one, id_from
from reviewapp.actions.people import (
    create_token,
    remove_member,
    revoke_token,
    set_role,
)
from reviewapp.exceptions import HardmineError
from reviewapp.forms.people import MemberForm, SignInForm, TokenForm
from reviewapp.keys import OFF, changed_keys, key_groups
from reviewapp.models import Dataset, Role
from reviewapp.models.people import role_on
from reviewapp.views.notices import mails_of
from reviewapp.views.requests import UserRequest

# LoginView is login_not_required already; axes throttles in the authentication backend.
sign_in = LoginView.as_view(
    template_name="people/sign_in.html",
    authentication_form=SignInForm,
    redirect_authenticated_user=True,
)
sign_out = login_not_required(LogoutView.as_view())


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def account(request: UserRequest) -> HttpResponse:
    """Show one's account; change the password, make or revoke a token."""
    act = request.POST.get("act", "")
    password_form = PasswordChangeForm(
        request.user, request.POST if act == "password" else None
    )
    # The page has more than one form: none may take the focus for itself.
    del password_form.fields["old_password"].widget.attrs["autofocus"]
    token_form = TokenForm(request.POST if act == "token" else None)
    fresh_token = ""
    if act == "revoke":
        return _revoke_token(request)
    if act == "keys":
        return _change_keys(request)
    if act == "password" and password_form.is_valid():
        password_form.save()
        update_session_auth_hash(request, password_form.user)
        messages.success(request, "Your password was changed.")
        return redirect("account")
    if act == "token" and token_form.is_valid():
        # Shown in this answer and stored nowhere, so there is nothing to redirect to.
        _, fresh_token = create_token(
            user=request.user, by=request.user, lifetime=token_form.expiry()
        )
    context = {
        "password_form": password_form,
        "token_form": token_form,
        "fresh_token": fresh_token,
        "tokens": AuthToken.objects.filter(user=request.user).order_by("-created"),
        "memberships": request.user.memberships.select_related("dataset").order_by(
            "dataset__name"
        ),
        "now": timezone.now(),
        "key_groups": key_groups(request.user),
        "keys_are_on": not request.user.keys.get(OFF),
        "mail": mails_of(request.user),
    }
    return render(request, "people/account.html", context)


def _change_keys(request: UserRequest) -> HttpResponse:
    """Change one's keys of the review pages; a refusal leaves them as they were."""
    user, sent = request.user, request.POST
    try:
        user.keys = (
            {} if "usual" in sent else changed_keys(sent.dict(), on="on" in sent)
        )
    except HardmineError as error:
        messages.error(request, str(error))
    else:
        user.save(update_fields=["keys"])
        messages.success(request, "Your keys are changed.")
    return redirect("account")


def _revoke_token(request: UserRequest) -> HttpResponse:
    tokens = AuthToken.objects.filter(user=request.user)
    token = access_one(tokens, token_key=request.POST.get("token", ""))
    revoke_token(token=token, by=request.user)
    messages.success(request, "The token was revoked. It does not work any more.")
    return redirect("account")


@require_http_methods(["GET", "POST"])
def members(request: UserRequest, slug: str) -> HttpResponse:
    """Show the members of a data set; an admin adds, changes and removes them."""
    writing = request.method == "POST"
    role = Role.ADMIN if writing else Role.REVIEWER
    dataset = access_dataset(request.user, slug, role=role)
    if writing and "remove" in request.POST:
        return _remove_member(request, dataset)
    form = MemberForm(request.POST or None)
    if form.is_valid():
        try:
            set_role(dataset=dataset, **form.cleaned_data, by=request.user)
        except HardmineError as error:
            form.add_error(None, str(error))
        else:
            return redirect("member-list", dataset.slug)
    context = {
        "dataset": dataset,
        "role": role_on(request.user, dataset),
        "form": form,
        "roles": Role.choices,
        "memberships": dataset.memberships.select_related("user").order_by(
            "user__username"
        ),
    }
    return render(request, "people/members.html", context)


def _remove_member(request: UserRequest, dataset: Dataset) -> HttpResponse:
    membership = access_one(
        dataset.memberships.select_related("dataset", "user"),
        pk=id_from(request.POST["remove"]),
    )
    remove_member(membership=membership, by=request.user)
    return redirect("member-list", dataset.slug)
