"""Pages that renew themselves stay usable while they do."""

from __future__ import annotations

import pytest
from django.utils import timezone

from reviewapp.models import Role, Scan
from tests import factories


@pytest.mark.browser
def test_a_link_can_be_clicked_slowly_in_a_part_that_renews_itself(
    transactional_db: None, sign_in
) -> None:
    scan = factories.ScanFactory(state=Scan.State.RUNNING, started_at=timezone.now())
    factories.ShardFactory(scan=scan, state="running", heartbeat_at=timezone.now())
    lead = factories.UserFactory()
    factories.MembershipFactory(user=lead, dataset=scan.dataset, role=Role.LEAD)
    page = sign_in(lead)
    polls = []
    page.on("response", lambda response: polls.append(response.url))
    address = f"/datasets/{scan.dataset.slug}/scans/{scan.pk}/"
    page.goto(address)
    page.wait_for_timeout(2500)
    assert sum(url.endswith(address) for url in polls) >= 3  # it does renew itself
    page.locator("#parts-running").hover()
    page.mouse.down()
    page.wait_for_timeout(2500)  # in which it would have been replaced
    page.mouse.up()
    page.wait_for_url("**/parts/?state=running", timeout=3000)
    assert page.problems == []
