# Copyright 2026 the maintainers of depthseg_ros
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Subscriptions whose topic and QoS follow the publishers, as with `ros2 topic echo`.

A best-effort subscription receives from every publisher, but DDS loses large images on the way; a
reliable one loses none, but receives nothing from a best-effort publisher. So the subscription is
reliable if all publishers of the topic are reliable, and best effort otherwise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import (
    QoSCompatibility,
    QoSDurabilityPolicy,
    QoSPolicyKind,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_check_compatible,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

from .settings import ABSENT, given

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

SETTLE = 5.0
"""Minimum seconds between two changes of QoS, unless messages would be missed."""
ALONE = 0.75
"""Seconds without a publisher of the preferred topic after which another topic is used."""
_FOLLOWED = (QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)


def type_name(kind: type) -> str:
    """The ROS name of a message class, e.g. sensor_msgs/msg/Image."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def matching_qos(offers: Sequence[QoSProfile], depth: int, latched: bool = False) -> QoSProfile:
    """QoS that receives from all publishers, without losses if they allow it.

    Args:
        offers: QoS of each publisher.
        depth: Length of the queue.
        latched: Whether to receive messages from before the subscription, if all publishers keep
            them (transient local).
    """
    qos = QoSProfile(depth=depth, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    if offers and all(o.reliability == QoSReliabilityPolicy.RELIABLE for o in offers):
        qos.reliability = QoSReliabilityPolicy.RELIABLE
    kept = QoSDurabilityPolicy.TRANSIENT_LOCAL
    if latched and offers and all(o.durability == kept for o in offers):
        qos.durability = kept
    return qos


def published_topics(node: Node, kind: type) -> list[str]:
    """Topics on which other nodes publish messages of a class, sorted."""
    return sorted(
        topic
        for topic, types in node.get_topic_names_and_types()
        if type_name(kind) in types
        and any(
            each.node_name != node.get_name() and each.topic_type == type_name(kind)
            for each in node.get_publishers_info_by_topic(topic)
        )
    )


class FollowingSubscription:
    """A subscription whose topic and QoS follow the publishers; call `follow` often.

    QoS overrides (parameters) take precedence. While a topic has no publisher, nothing changes.

    Args:
        node: The node that subscribes.
        kind: Class of the messages.
        topics: Names of the topic, in order of preference: the others are only used while the
            first has not had a publisher of this type yet.
        callback: Receives the messages.
        depth: Length of the queue.
        latched: See `matching_qos`.
        on_incompatible: Called with the topic and the policy (its name in QoS overrides) of a
            publisher whose messages are not received because of an override.
        on_lost: Called with the number of messages that the middleware has lost.

    Raises:
        Exception: Whatever rclpy raises for wrong QoS overrides.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topics: Sequence[str],
        callback: Callable[[Any], None],
        *,
        depth: int = 5,
        latched: bool = False,
        on_incompatible: Callable[[str, str], None] = lambda topic, policy: None,
        on_lost: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._node, self.kind, self._callback = node, kind, callback
        self._names: dict[str, str] = {}  # topic after remapping -> before
        for name in topics:
            self._names.setdefault(node.resolve_topic_name(name), name)
        self._depth, self._latched = depth, latched
        self._on_incompatible, self._on_lost = on_incompatible, on_lost
        self._began, self._changed = time.monotonic(), -math.inf
        self._preferred = False  # whether the first topic has had a publisher
        self._overridden: dict[str, list[QoSPolicyKind]] = {}
        self._subscription: Any = None
        self._choice: tuple[Any, ...] = ()
        self.follow()

    @property
    def topic(self) -> str:
        """The topic in use, after remapping."""
        return str(self._choice[0])

    @property
    def topics(self) -> list[str]:
        """All topics that may be used, after remapping, in order of preference."""
        return list(self._names)

    @property
    def type(self) -> str:
        """The type of the messages, e.g. sensor_msgs/msg/Image."""
        return type_name(self.kind)

    @property
    def reliable(self) -> bool:
        """Whether the subscription is reliable now."""
        return bool(self._subscription.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE)

    def offers(self, topic: str = "") -> list[QoSProfile]:
        """QoS of the publishers of this type on a topic; by default the topic in use."""
        name = self._names[topic or self.topic]
        found = self._node.get_publishers_info_by_topic(name)
        return [each.qos_profile for each in found if each.topic_type == self.type]

    def follow(self) -> bool:
        """Adapt topic and QoS to the current publishers.

        Returns:
            Whether the topic has changed.

        Raises:
            Exception: Whatever rclpy raises for wrong QoS overrides; then nothing changes.
        """
        topic, offers = self._chosen()
        qos = matching_qos(offers, self._depth, self._latched)
        overridden = self._overrides(topic)
        choice = (topic, *(getattr(qos, p.name.lower()) for p in _FOLLOWED if p not in overridden))
        before, now = self._choice, time.monotonic()
        if before:
            if choice == before or not offers:
                return False
            # With incompatible QoS messages are not received: that cannot wait.
            fits = self._check(offers)
            if topic == before[0] and fits and now - self._changed < SETTLE:
                return False
            self._changed = now
        subscription = self._subscribe(self._names[topic], qos, overridden)
        self.destroy()
        self._subscription, self._choice = subscription, choice
        return bool(before) and before[0] != topic

    def _chosen(self) -> tuple[str, list[QoSProfile]]:
        """The topic to use, and the QoS of its publishers."""
        first = self.topics[0]
        offers = {topic: self.offers(topic) for topic in self.topics}
        self._preferred = self._preferred or bool(offers[first])
        if self._preferred or time.monotonic() - self._began < ALONE:
            return first, offers[first]
        used = self.topic if self._choice else first
        topic = next((topic for topic in self.topics if offers[topic]), used)
        return topic, offers[topic]

    def _overrides(self, topic: str) -> list[QoSPolicyKind]:
        """The policies among `_FOLLOWED` that parameters override."""
        if topic not in self._overridden:
            prefix = f"qos_overrides.{topic}.subscription"
            self._overridden[topic] = [
                policy
                for policy in _FOLLOWED
                if given(self._node, f"{prefix}.{policy.name.lower()}") != ABSENT
            ]
        return self._overridden[topic]

    def _subscribe(self, name: str, qos: QoSProfile, overridden: list[QoSPolicyKind]) -> Any:
        # Only overridden policies are declared: the others follow the publishers, not parameters.
        policies = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, *overridden)
        topic = self._node.resolve_topic_name(name)

        def incompatible(event: Any) -> None:
            if event.last_policy_kind in overridden:
                policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
                self._on_incompatible(topic, policy)

        def create(**more: Any) -> Any:
            return self._node.create_subscription(
                self.kind,
                name,
                self._callback,
                qos,
                qos_overriding_options=QoSOverridingOptions(policies),
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=incompatible, **more),
            )

        try:
            return create(message_lost=lambda event: self._on_lost(event.total_count_change))
        except UnsupportedEventTypeError:  # the middleware does not count them
            return create()

    def _check(self, offers: list[QoSProfile]) -> bool:
        """Whether messages of all these publishers are received."""
        return all(
            qos_check_compatible(offer, self._subscription.qos_profile)[0] != QoSCompatibility.ERROR
            for offer in offers
        )

    def compatible(self) -> bool:
        """Whether messages of all publishers of the topic are received."""
        return self._check(self.offers())

    def destroy(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
