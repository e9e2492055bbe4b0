"""Pages that renew themselves stay usable while they do."""

from __future__ import annotations

from typing import Any

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
    address = f"/datasets/{scan.dataset.slug}/scans/{scan.pk}/"
    page.goto(address)
    _wait_for_renewals(page, address)  # it does renew itself
    page.locator("#parts-running").hover()
    page.mouse.down()
    _wait_for_renewals(page, address)  # it would have been replaced
    page.mouse.up()
    page.wait_for_url("**/parts/?state=running", timeout=3000)
    assert page.problems == []


def _wait_for_renewals(page: Any, address: str) -> None:
    """Wait for two answers; once the second is here, the first has been dealt with."""
    for _ in range(2):
        with page.expect_response(lambda response: response.url.endswith(address)):
            pass
