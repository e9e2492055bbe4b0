"""The pages of notifications in Chromium, with a real receiver."""

from __future__ import annotations

import pytest

from reviewapp.actions.notices import add_webhook, try_webhook
from reviewapp.models import Delivery, Webhook
from reviewapp.notifying import send_delivery
from tests.browser.holding import problems_at_all_sizes
from tests.notices import ALL, wanting
from tests.receivers import receiving


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_a_webhook_is_added_tried_and_looked_at(
    transactional_db, world, alice, sign_in, settings
) -> None:
    with receiving() as receiver:
        settings.WEBHOOK_HOSTS = [f"127.0.0.1:{receiver.port}"]
        settings.WEBHOOK_HTTP = True
        page = sign_in(wanting(alice, "regression"))
        page.goto("/datasets/animals/notifications/")
        page.get_by_label("Name").fill("chat")
        page.get_by_label("Address").fill(receiver.url("/" + "long" * 30))
        page.get_by_label("Regression").check()
        page.get_by_role("button", name="Add the webhook").click()
        shown = page.locator("#fresh-secret").inner_text()
        webhook = Webhook.objects.get()
        assert shown == webhook.secret()
        page.get_by_role("button", name="Send a test").click()
        page.wait_for_selector(".notice--success")
        delivery = Delivery.objects.get()
        send_delivery(delivery_id=delivery.pk)
        page.reload()
        assert page.locator(".tag--done").inner_text() == "sent"
        assert page.problems == []
        receiver.status = 503
        send_delivery(delivery_id=try_webhook(webhook=webhook, by=alice).pk)
        url = receiver.url()
        add_webhook(dataset=world.dataset, name="CI", url=url, events=ALL, by=alice)
        pages = {
            "notifications": "/datasets/animals/notifications/",
            "webhook": f"/datasets/animals/notifications/{webhook.pk}/",
            "account": "/account/",
        }
        assert (
            problems_at_all_sizes(sign_in, alice, pages, axe=True, pictured=pages) == []
        )
