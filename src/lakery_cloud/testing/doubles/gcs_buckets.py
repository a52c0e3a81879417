"""The requests of a double of Cloud Storage about buckets and listings."""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from lakery_cloud.testing.doubles.gcs_objects import ObjectRequests
from lakery_cloud.testing.doubles.gcs_state import DoubleObject, GCSState, Refusal


class BucketRequests:
    """Answers requests about buckets.

    Attributes:
        page_size: Most entries on one page of a listing.
    """

    def __init__(self, state: GCSState, objects: ObjectRequests, *, page_size: int) -> None:
        self._state = state
        self._objects = objects
        self.page_size = page_size

    def make(self, bucket: str) -> web.Response:
        """buckets.insert."""
        if bucket in self._state.buckets:
            raise Refusal(409, "conflict", "You already own this bucket.")
        self._state.buckets[bucket] = {}
        return web.json_response({"kind": "storage#bucket", "name": bucket})

    def delete(self, bucket: str) -> web.Response:
        """buckets.delete."""
        if self._state.objects(bucket):
            raise Refusal(409, "conflict", "The bucket you tried to delete is not empty.")
        del self._state.buckets[bucket]
        self._state.described.pop(bucket, None)
        return web.Response(status=204)

    def get(self, bucket: str, query: Mapping[str, str]) -> web.Response:
        """buckets.get."""
        self._state.objects(bucket)
        found, profile = self._state.described[bucket], self._state.profile_of(bucket)
        if query.get("ifMetagenerationMatch") not in (None, str(found.metageneration)):
            raise Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        resource: dict[str, Any] = {
            "kind": "storage#bucket",
            "name": bucket,
            "metageneration": str(found.metageneration),
            "softDeletePolicy": {"retentionDurationSeconds": "604800" if profile.soft_delete else "0"},
        }
        resource |= {"lifecycle": found.lifecycle} if found.lifecycle else {}
        resource |= {"versioning": {"enabled": True}} if profile.versioned else {}
        resource |= {"retentionPolicy": {"retentionPeriod": "86400"}} if profile.retained else {}
        resource |= {"defaultEventBasedHold": True} if profile.hold == "Event-Based" else {}
        resource |= {"billing": {"requesterPays": True}} if profile.requester_pays else {}
        fields = query["fields"].split(",") if "fields" in query else resource
        return web.json_response({name: value for name, value in resource.items() if name in fields})

    def patch(self, bucket: str, changes: Mapping[str, Any], query: Mapping[str, str]) -> web.Response:
        """buckets.patch, of the lifecycle rules alone."""
        self.get(bucket, query)
        if changes.keys() != {"lifecycle"}:
            raise Refusal(400, "invalid", "this server changes only the lifecycle of a bucket")
        for rule in (changes["lifecycle"] or {}).get("rule", ()):
            # Cloud Storage, "Object Lifecycle Management": one action and at least one condition.
            if rule.keys() != {"action", "condition"} or not rule["action"].get("type") or not rule["condition"]:
                raise Refusal(400, "invalid", "A lifecycle rule must have an action and a condition.")
        found = self._state.described[bucket]
        found.metageneration += 1
        found.lifecycle = changes["lifecycle"]
        return self.get(bucket, {name: query[name] for name in query if name == "fields"})

    def list(self, bucket: str, query: Mapping[str, str]) -> web.Response:
        """objects.list."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        if query.get("versions") == "true":
            return self._list_versions(bucket, prefix, delimiter, query)
        entries: dict[str, DoubleObject | None] = {}
        for name, each in sorted(self._state.objects(bucket).items(), key=lambda item: item[0].encode()):
            if name.startswith(prefix):
                rest = name[len(prefix) :]
                is_below = bool(delimiter) and delimiter in rest
                shown = prefix + rest.partition(delimiter)[0] + delimiter if is_below else name
                entries[shown] = None if is_below else each
        after = base64.urlsafe_b64decode(query["pageToken"]).decode() if "pageToken" in query else ""
        names = [name for name in entries if name.encode() > after.encode()]
        size = min(self.page_size, int(query.get("maxResults", self.page_size)))
        page: dict[str, Any] = {"kind": "storage#objects"}
        items = [
            self._objects.describe(bucket, name, found) for name in names[:size] if (found := entries[name]) is not None
        ]
        prefixes = [name for name in names[:size] if entries[name] is None]
        page |= {"items": _with_fields(items, query)} if items else {}
        page |= {"prefixes": prefixes} if prefixes else {}
        if len(names) > size:
            last = names[0] if self._state.profile.tokens == "same" and not after else names[size - 1]
            last = after if self._state.profile.tokens == "same" and after else last
            page["nextPageToken"] = base64.urlsafe_b64encode(last.encode()).decode()
        return web.json_response(page)

    def _list_versions(self, bucket: str, prefix: str, delimiter: str, query: Mapping[str, str]) -> web.Response:
        """All generations, in one page. Folders are left out: nobody reads them."""
        live = self._state.objects(bucket).items()
        found = [self._objects.describe(bucket, name, each) for name, each in live]
        found += [
            {**self._objects.describe(bucket, name, each), "timeDeleted": each.updated}
            for name, each in self._state.described[bucket].noncurrent
        ]
        items = [
            each
            for each in found
            if each["name"].startswith(prefix) and not (delimiter and delimiter in each["name"].removeprefix(prefix))
        ]
        return web.json_response(
            {"kind": "storage#objects", **({"items": _with_fields(items, query)} if items else {})}
        )


_FIELDS = re.compile(r"items\(([^()]*)\)")


def _with_fields(items: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> list[dict[str, Any]]:
    """The fields of objects that a listing is asked for (Cloud Storage, "Partial responses")."""
    wanted = _FIELDS.search(query.get("fields", ""))
    names = wanted[1].split(",") if wanted else None
    return [{name: value for name, value in each.items() if names is None or name in names} for each in items]
