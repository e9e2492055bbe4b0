"""Who may see and do what on a data set."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.actions.people import remove_member, set_role
from reviewapp.api.base import DatasetViewSet
from reviewapp.exceptions import Refused
from reviewapp.models import Membership, Role, User


class MemberSerializer(serializers.ModelSerializer[Membership]):
    """One person's role on the data set."""

    username = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = Membership
        fields = ["id", "username", "role", "created_at"]


class MemberRequest(serializers.Serializer[Membership]):
    """Whom to give which role."""

    username = serializers.CharField(max_length=150)
    role = serializers.ChoiceField(choices=Role.choices)


@extend_schema(tags=["members"])
class MembersViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Membership]
):
    """The members of a data set."""

    queryset = Membership.objects.none()
    serializer_class = MemberSerializer
    lookup_url_kwarg = "member_id"
    roles = {"create": Role.ADMIN, "destroy": Role.ADMIN}

    def rows(self) -> QuerySet[Membership]:
        """Return the data set's memberships."""
        return self.dataset.memberships.select_related("user", "dataset")

    @extend_schema(request=MemberRequest, responses=MemberSerializer)
    def create(self, request: Request, slug: str) -> Response:
        """Make a person a member with this role, or change their role (admin)."""
        body = self.read(MemberRequest(data=request.data))
        user = User.objects.filter(username=body["username"]).first()
        if user is None:
            raise Refused(f"There is no account named {body['username']!r}.")
        membership = set_role(
            dataset=self.dataset, user=user, role=Role(body["role"]), by=self.person
        )
        return Response(MemberSerializer(membership).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, slug: str, member_id: int) -> Response:
        """Take a person off the data set (admin); their verdicts stay."""
        remove_member(membership=self.get_object(), by=self.person)
        return Response(status=status.HTTP_204_NO_CONTENT)
