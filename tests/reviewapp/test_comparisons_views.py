"""The pages that hold two scans against each other."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reviewapp import comparing, tasks
from reviewapp.models import Comparison, Scan
from reviewapp.templatetags.comparisons import p_value, points
from tests import factories
from tests.comparing import add_samples, add_scan

NEW = "/datasets/animals/compare/"


@pytest.fixture(autouse=True)
def sent(monkeypatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(tasks, "_send", lambda task, pks, **_: found.extend(pks))
    return found


@pytest.fixture
def later(registered_model, version):
    return factories.ModelVersionFactory(registered_model=registered_model)


@pytest.fixture
def samples(labels):
    return add_samples(labels, "ccccddddff")


@pytest.fixture
def scans(version, later, samples) -> tuple[Scan, Scan]:
    return (
        add_scan(version, samples, "ccdddddfcf"),
        add_scan(later, samples, "cdcdddddcf"),
    )


@pytest.fixture
def client(rita, client_of):
    return client_of(rita)


def url(scans, query: str = "") -> str:
    return f"{NEW}{scans[0].pk}/{scans[1].pk}/{query}"


def ask(client, scans, *, capture, **fields):
    with capture(execute=True):
        response = client.post(url(scans), fields)
    assert response.status_code == 302, response.text
    return response.headers["Location"]


@pytest.fixture
def made(client, scans, sent, django_capture_on_commit_callbacks):
    """Ask for a comparison, make it, and return the page."""

    def made(which=scans, **fields):
        capture = django_capture_on_commit_callbacks
        page = ask(client, which, capture=capture, **fields)
        tasks.run_comparison(sent[-1])
        return client.get(page)

    return made


def test_the_form_offers_the_last_two_scans_and_starts_one(
    client, scans, sent, django_capture_on_commit_callbacks
) -> None:
    page = client.get(NEW)
    initial = page.context["form"].initial
    assert (initial["baseline"], initial["candidate"]) == (scans[0].pk, scans[1].pk)
    given = {"labels": "original", **initial}

    with django_capture_on_commit_callbacks(execute=True):
        response = client.post(NEW, given)

    assert response.headers["Location"] == url(scans, "?labels=original")
    comparison = Comparison.objects.get()
    assert sent == [comparison.pk]
    assert 'hx-trigger="every 2s"' in client.get(response.headers["Location"]).text
    tasks.run_comparison(comparison.pk)
    done = client.get(response.headers["Location"])
    assert 'hx-trigger="every 2s"' not in done.text
    assert "+10.0" in client.get(NEW).text  # in the list of those made before


def test_a_scan_against_itself_or_anothers_scan_is_refused(
    client, scans, charlie
) -> None:
    hidden = factories.ScanFactory(
        model_version__registered_model__dataset=charlie.memberships.get().dataset
    )
    for baseline in (scans[1], hidden):
        fields = {
            "baseline": baseline.pk,
            "candidate": scans[1].pk,
            "labels": "original",
        }
        assert "baseline" in client.post(NEW, fields).context["form"].errors
    assert not Comparison.objects.exists()
    assert client.post(url((scans[0], scans[0]))).status_code == 400
    assert client.get(url((scans[0], hidden))).status_code == 404


def test_without_two_scans_it_says_what_to_do(client, version) -> None:
    assert "Two finished scans are needed" in client.get(NEW).text


def test_looking_at_a_page_compares_nothing(client, scans) -> None:
    page = client.get(url(scans))
    assert "Not compared yet with the corrected labels" in page.text
    assert client.get(url(scans, "?labels=nonsense&common=7")).status_code == 200
    assert not Comparison.objects.exists()


def test_it_shows_the_figures_and_what_broke(made, samples) -> None:
    page = made()

    assert page.context["cell"] == "broken"
    [image] = page.context["shown"]
    assert (image.key, image.true, image.before, image.after) == (
        samples[1].key,
        "cat",
        "cat",
        "dog",
    )
    for said in ("70.0 %", "was 60.0 %", "+10.0", "10.0 % negative flips", "p = 1"):
        assert said in page.text
    assert page.context["changes"][0] == ("fixed", 1)
    assert page.context["change"] == "fixed"
    assert "seen before" not in page.text
    assert samples[1].key in page.text


@pytest.mark.parametrize(
    ("cell", "places"), [("fixed", [2, 7]), ("both_wrong", [3, 8]), ("nonsense", [1])]
)
def test_each_cell_opens_its_images(made, client, scans, samples, cell, places) -> None:
    made()
    page = client.get(url(scans, f"?cell={cell}"))
    keys = [image.key for image in page.context["shown"]]
    assert keys == [samples[place].key for place in places]


def test_pictures_are_those_of_findings_and_exemplars(
    made, client, scans, samples, labels, registered_model
) -> None:
    finding = factories.FindingFactory(
        sample=samples[2], predicted_label=labels[1], registered_model=registered_model
    )
    factories.ExemplarFactory(sample=samples[7], scan=scans[0])
    made()
    first, second = client.get(url(scans, "?cell=fixed")).context["shown"]
    assert first.picture.startswith(f"/datasets/animals/findings/{finding.pk}/")
    assert first.page == f"/datasets/animals/findings/{finding.pk}/"
    assert "/exemplars/" in second.picture
    assert second.page == ""
    broken = client.get(url(scans, "?cell=broken"))
    assert broken.context["shown"][0].picture == ""
    assert "no picture" in broken.text


def test_confusions_lead_to_their_findings(made, client, scans, labels) -> None:
    made()
    page = client.get(url(scans, "?change=unchanged"))
    rows = page.context["confusion_rows"]
    assert [(row.actual, row.predicted, row.both) for row in rows] == [
        ("cat", "dog", 1),
        ("fox", "cat", 1),
    ]
    assert (
        f"true_label={labels[0].pk}&predicted_label={labels[1].pk}" in rows[0].findings
    )
    assert (
        client.get(f"/datasets/animals/findings/?{rows[0].findings}").status_code == 200
    )


def test_original_and_corrected_labels_are_two_comparisons(
    made, client, scans, samples, labels
) -> None:
    type(samples[2]).objects.filter(pk=samples[2].pk).update(label=labels[1])
    corrected = made(labels="corrected")
    assert corrected.context["figures"]["difference"]["value"] == pytest.approx(-0.1)
    assert "1 with another label than scanned" in corrected.text
    original = client.get(url(scans, "?labels=original"))
    assert "Not compared yet with the original labels" in original.text
    original = made(labels="original")
    assert original.context["figures"]["difference"]["value"] == pytest.approx(0.1)


def test_a_refusal_lists_what_differs_and_offers_what_is_common(
    made, scans, samples, later
) -> None:
    fewer = add_scan(later, samples[:8], "cdcddddd")
    refused = made((scans[0], fewer))
    assert "These are not the same samples" in refused.text
    assert "are in the baseline&#x27;s scan only" in refused.text
    assert samples[8].key in refused.text
    assert 'name="common" value="1"' in refused.text
    common = made((scans[0], fewer), common="1")
    assert common.context["figures"]["samples"] == 8
    assert "Common samples alone" in common.text


def test_seen_samples_are_warned_of_with_the_figures_without(
    made, samples, labels, registered_model
) -> None:
    factories.FindingFactory(
        sample=samples[1],
        predicted_label=labels[1],
        registered_model=registered_model,
        review_state="confirmed",
    )
    page = made()
    assert "1 of these samples were seen before" in page.text
    assert "9 samples, not seen before" in page.text
    assert "+22.2" in page.text  # 2 of the other 9


def test_a_failed_one_says_why_and_can_be_made_again(made, client, scans) -> None:
    scans[0].artefact = "gone"
    scans[0].save()
    page = made()
    assert "are not in the storage any more" in page.text
    assert "Compare again" in page.text


def test_long_tables_come_in_pages(made, client, version, later, labels) -> None:
    many = add_samples(labels, "c" * 60)
    scans = add_scan(version, many, "c" * 60), add_scan(later, many, "d" * 60)
    made(scans)
    page = client.get(url(scans, "?images=3&cell=broken"))
    assert [image.key for image in page.context["shown"]] == [
        sample.key for sample in many[48:]
    ]
    assert page.context["images"].back == "images=2&cell=broken"
    assert page.context["images"].more == ""
    assert "images=2&amp;cell=broken#images" in page.text
    assert client.get(url(scans, "?images=nonsense")).status_code == 200


def test_it_says_that_only_the_first_of_many_are_shown(
    made, client, version, later, labels, monkeypatch
) -> None:
    many = add_samples(labels, "c" * 4)
    scans = add_scan(version, many, "cccc"), add_scan(later, many, "dddd")
    said = "The first 3 of 4 are shown."
    assert said not in made(scans).text
    monkeypatch.setattr(comparing, "IMAGES", 3)
    page = made(scans)
    assert [image.key for image in page.context["shown"]] == [
        sample.key for sample in many[:3]
    ]
    assert said in page.text


def test_more_images_take_no_more_queries(
    made, client, version, later, labels, registered_model
) -> None:
    def queries(n: int) -> int:
        many = add_samples(labels, "c" * n)
        for sample in many:
            factories.FindingFactory(
                sample=sample,
                predicted_label=labels[1],
                registered_model=registered_model,
            )
        scans = add_scan(version, many, "c" * n), add_scan(later, many, "d" * n)
        made(scans)
        with CaptureQueriesContext(
            connection,
        ) as counted:
            page = client.get(url(scans))
        assert len(page.context["shown"]) == n
        return len(counted)

    assert queries(2) == queries(20)


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0632, "+6.3"),
        (-0.0009, "\N{MINUS SIGN}0.09"),
        (0.00004, "+0.004"),
        (1e-9, "0"),
        (0.0, "0"),
        (None, "\N{EN DASH}"),
    ],
)
def test_differences_are_points_with_a_sign(share, said) -> None:
    assert points(share) == said


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (1.0, "1"),
        (0.6072, "0.61"),
        (0.05, "0.05"),
        (0.0000432, "0.000043"),
        (1e-30, "< 0.000001"),
        (None, "\N{EN DASH}"),
    ],
)
def test_p_values_keep_two_digits_that_count(p, said) -> None:
    assert p_value(p) == said
